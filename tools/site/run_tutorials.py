"""Run the notebooks of docs/tutorials and store their outputs in them, as the site shows them.

``python tools/site/run_tutorials.py [docs/tutorials/2_distil.ipynb ...]``
"""

import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOISE = re.compile(r"- mmengine -|ipywidgets|^support$|warnings\.warn|^\+-|^\| |IPKernelApp")
SECONDS = 600  # of a cell, on a machine that does other things too


def run_notebook(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from its folder.

    Args:
        path: The notebook.

    Returns:
        The notebook with the outputs of this run; nothing that differs from run to run but them.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = merged(cell.outputs)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def merged(outputs: list) -> list:
    """Images, and between them all text in one: without warnings, colors, and lines of MMEngine's log."""
    kept: list = []
    for output in outputs:
        if "image/png" in output.get("data", {}):
            kept.append(nbformat.v4.new_output("display_data", data={"image/png": output.data["image/png"]}))
        elif output.get("name") != "stderr":
            text = output.get("text") or output["data"].get("text/plain", "")
            lines = [
                line.rstrip() for line in ANSI.sub("", text).splitlines() if line.strip() and not NOISE.search(line)
            ]
            if lines and kept and kept[-1].output_type == "stream":
                kept[-1].text += "\n".join(lines) + "\n"
            elif lines:
                kept.append(nbformat.v4.new_output("stream", name="stdout", text="\n".join(lines) + "\n"))
    return kept


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        begin = time.perf_counter()
        nbformat.write(run_notebook(path), path)
        print(f"{path.name}: {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
