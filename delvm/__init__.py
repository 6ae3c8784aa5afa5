"""The command line of ``delvm_mm``; it needs nothing but Python, so that it can say what is missing."""
