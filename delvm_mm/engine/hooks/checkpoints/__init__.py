"""Hooks that write checkpoints."""
