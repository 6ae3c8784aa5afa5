"""Metrics that no toolbox has, in MMEngine's form."""
