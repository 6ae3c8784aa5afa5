"""Data-efficient large vision models (DeLVM) for the OpenMMLab toolboxes."""

from delvm_mm.toolboxes import require_toolbox

__version__ = "0.1.0"

require_toolbox("mmengine")
require_toolbox("mmcv")
