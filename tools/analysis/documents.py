"""Results into documents: whole files at once, and the marked block of a page that a tool writes."""

from collections.abc import Sequence
from pathlib import Path

from delvm_mm.checkpoints.files import write_atomically


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


def replace_block(path: Path, name: str, text: str) -> None:
    """Put a text between ``<!-- begin: name -->`` and ``<!-- end: name -->`` of a page.

    Raises:
        FileNotFoundError: There is no such page.
        ValueError: It does not have these two lines, in this order, once each.
    """
    page = path.read_text()
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"{path} needs the lines '{begin.strip()}' and '{end}', once each: the text goes between them")
    before, after = page.split(begin)[0], page.split(end)[1]
    write_text(path, f"{before}{begin}{text.strip()}\n{end}{after}")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers and stand right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
