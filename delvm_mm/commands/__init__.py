"""The sub-commands of ``delvm``, which ``tools/*.py`` run too: a module with ``main`` each; ``parsers`` beside them."""
