"""Masks, instances and classes as drawings, and back."""
