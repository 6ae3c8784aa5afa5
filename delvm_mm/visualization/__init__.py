"""Answers as images to look at: overlays, panels, sheets."""

from delvm_mm.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "overlays": ["draw_overlay"],
        "panels": ["draw_panel", "stack_panels", "write_image"],
        "sheets": ["draw_row"],
    },
)
