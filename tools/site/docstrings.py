"""Docstrings as Markdown: roles, links and literal blocks of reStructuredText are rewritten while the site is built."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?(?:[\w.]*?)([\w.]+)`")
SHORT_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~[\w.]*?(\w+)`")
LINK = re.compile(r"`([^`<]+?)\s*<(https?://[^>]+)>`__?")
TABLE = re.compile(r"(?m)^( *)(={3,}(?: +={3,})+\n(?:.*\n)*?)(?=\n|\Z)")


def plain_markdown(text: str) -> str:
    """A docstring in the Markdown that it means.

    >>> plain_markdown("A :class:`~delvm_mm.models.DeLVM`, see `here <https://x.org>`_::")
    'A `DeLVM`, see [here](https://x.org):'
    """
    text = SHORT_ROLE.sub(r"`\1`", text)
    text = ROLE.sub(r"`\1`", text)
    text = LINK.sub(r"[\1](\2)", text)
    text = TABLE.sub(lambda table: f"{table[1]}```text\n{table[1]}{table[2]}{table[1]}```\n", text + "\n").rstrip("\n")
    text = re.sub(r"(?m)^( *)Example:$", r"\1Examples:", text)  # the section that griffe knows
    return re.sub(r"::(?=\n|\Z)", ":", text)


class PlainMarkdown(griffe.Extension):
    """Rewrite every docstring that mkdocstrings reads."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = plain_markdown(obj.docstring.value)
