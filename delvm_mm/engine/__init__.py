from .hooks import DistillationHook, PanelHook, ThroughputHook, TokenizerCheckHook, ValidationPanelHook

__all__ = ["DistillationHook", "PanelHook", "ThroughputHook", "TokenizerCheckHook", "ValidationPanelHook"]
