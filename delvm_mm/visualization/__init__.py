from delvm_mm.visualization.panels import draw_panel, stack_panels

__all__ = ["draw_panel", "stack_panels"]
