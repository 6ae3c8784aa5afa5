"""MMCV's base class of transforms, or one sentence on what is wrong with mmcv."""

from delvm_mm.toolboxes import require_toolbox

__all__ = ["BaseTransform"]

BaseTransform = require_toolbox("mmcv.transforms").BaseTransform
