from delvm_mm.visualization.overlays import draw_overlay
from delvm_mm.visualization.panels import draw_panel, stack_panels, write_image
from delvm_mm.visualization.sheets import draw_row

__all__ = ["draw_overlay", "draw_panel", "draw_row", "stack_panels", "write_image"]
