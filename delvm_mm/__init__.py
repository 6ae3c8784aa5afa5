"""Data-efficient large vision models (DeLVM) for the OpenMMLab toolboxes."""

from delvm_mm.quiet import ignore_warnings
from delvm_mm.toolboxes import require_installed, require_toolbox

__version__ = "0.2.0"

require_toolbox("mmengine")
ignore_warnings()
require_installed("mmcv")  # importing it takes a moment, and is left to what needs it
