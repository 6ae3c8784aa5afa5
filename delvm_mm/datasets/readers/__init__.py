"""Published data sets on disk as results dicts."""
