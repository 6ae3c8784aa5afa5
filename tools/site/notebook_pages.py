"""Notebooks as pages: text, code and the outputs that are stored in them."""

import base64
import re
from pathlib import Path

import nbformat

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def notebook_page(path: Path, name: str) -> dict[str, str | bytes]:
    """A notebook as Markdown, and its images.

    Args:
        path: The notebook.
        name: Place of the page on the site, without suffix.

    Returns:
        Place -> text of the page, PNG bytes of images.
    """
    lines: list[str] = []
    files: dict[str, str | bytes] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
        elif cell.cell_type == "code" and cell.source.strip():
            lines += ["```python", cell.source, "```", ""]
            for output in cell.outputs:
                data = output.get("data", {})
                if "image/png" in data:
                    image = f"{name}_{len(files) + 1}.png"
                    files[image] = base64.b64decode(data["image/png"])
                    lines += [f"![output of the cell above]({Path(image).name})", ""]
                elif text := output.get("text") or data.get("text/plain"):
                    lines += ["```text", ANSI.sub("", text).rstrip(), "```", ""]
    files[f"{name}.md"] = "\n".join(lines)
    return files
