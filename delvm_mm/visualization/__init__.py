from delvm_mm.visualization.overlays import draw_overlay
from delvm_mm.visualization.panels import draw_panel, stack_panels

__all__ = ["draw_overlay", "draw_panel", "stack_panels"]
