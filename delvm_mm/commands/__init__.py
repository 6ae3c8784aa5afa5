"""The sub-commands of ``delvm``, a module each: ``make_parser`` and ``main``; ``tools/*.py`` are the same code."""
