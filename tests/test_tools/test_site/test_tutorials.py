"""Every notebook of the tutorials runs from its first cell to its last, and has its outputs stored."""

from pathlib import Path

import pytest

from helpers import ROOT

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

from run_tutorials import run_notebook  # noqa: E402

NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def package_of_this_checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def outputs_of(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text_of(notebook):
    return "".join(output.get("text", "") for output in outputs_of(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path):
    ran, stored = run_notebook(path), nbformat.read(path, as_version=4)
    assert [cell.source for cell in ran.cells] == [cell.source for cell in stored.cells]
    images = [sum("image/png" in output.get("data", {}) for output in outputs_of(one)) for one in (ran, stored)]
    assert images[0] == images[1] and text_of(stored), (
        "stored outputs are of other cells: python tools/site/run_tutorials.py"
    )
    assert "Traceback" not in text_of(ran) and "error:" not in text_of(ran)
    if "tools/test.py" in "".join(cell.source for cell in ran.cells):
        assert "ceiling" in text_of(ran) and "last label" in text_of(ran)


def test_there_are_five():
    assert [path.stem[0] for path in NOTEBOOKS] == list("12345")


def test_an_error_in_a_notebook_is_an_error(tmp_path):
    cells = [nbformat.v4.new_code_cell("from delvm_mm.registry import NoSuchRegistry")]
    path = Path(tmp_path / "broken.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(Exception, match="NoSuchRegistry"):
        run_notebook(path)
