"""Teachers in a training run: online, or offline from a teacher cache."""
