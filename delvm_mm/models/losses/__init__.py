"""Losses on logits that never exist as a whole, and distillation."""
