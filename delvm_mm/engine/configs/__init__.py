"""Configs: where they are found, what is wrong with them, and hooks and variables in them."""
