"""The site builds strictly, and what pages and README tell to type can be typed."""

import functools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import SUBCOMMANDS, command_of, help_of, help_of_delvm
from delvm.cli import COMMANDS
from delvm_mm import registry as registries
from delvm_mm.pretrained import shipped_names
from docstrings import plain_markdown
from helpers import ROOT
from helpers.tools_in_process import run_here

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.exists()]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
help_of_tool, help_of_command = functools.cache(help_of), functools.cache(help_of_delvm)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for fence in FENCE.finditer(page.read_text("utf-8")):
        if fence["language"] in languages:
            yield re.sub(f"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE)


def shell_lines(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, "shell", "bash", "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("…", "..."), comments=True)
            while words and ("=" in words[0] or words[0] in ("torchrun", "export")):  # variables, and what starts tools
                words = words[1:]
            if words:
                yield words


def by_name(paths: list[Path]):
    return pytest.mark.parametrize("page", paths, ids=[path.stem for path in paths])


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    build, config = pytest.importorskip("mkdocs.commands.build"), pytest.importorskip("mkdocs.config")
    build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    search = (tmp_path / "site/search/search_index.json").read_text("utf-8")
    for text in ("DistillationHook", "train_dataloader", "--show-dir", "tokenizer ceiling", "encode_images"):
        assert text in search, f"{text} is on no page"
    assert "https://" not in "".join(re.findall(r'<(?:script|link)[^>]*"(https?:[^"]*)"', _read(tmp_path / "site")))


def _read(site: Path) -> str:
    return (site / "index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "what"),
    [("# Lost", "not included in the"), ("[x](nowhere.md)", "nowhere.md"), ("[x](#no)", "no such anchor")],
)
def test_lost_pages_and_dead_links_end_the_build(tmp_path, caplog, text, what):
    build, config = pytest.importorskip("mkdocs.commands.build"), pytest.importorskip("mkdocs.config")
    exceptions = pytest.importorskip("mkdocs.exceptions")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Index")
    (tmp_path / "docs/page.md").write_text(text)
    pages = ["index.md"] if "Lost" in text else ["index.md", "page.md"]
    options = dict(docs_dir=str(tmp_path / "docs"), site_dir=str(tmp_path / "site"), nav=pages, hooks=[], plugins=[])
    with pytest.raises(exceptions.Abort):
        build.build(config.load_config(str(ROOT / "mkdocs.yml"), extra_css=[], **options))
    assert what in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save("photo.jpg")
    snippets = list(blocks(ROOT / "README.md", "python"))
    assert snippets
    names = {"__name__": "__main__"}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert set(np.unique(names["result"]["predictions"][0]["mask_original"])) <= {0, 1}  # as the comment says
    assert capsys.readouterr().out.endswith("(60, 80)\n")
    assert list((tmp_path / "answers/vis").glob("*.png"))


@pytest.mark.filterwarnings("ignore")
def test_commands_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ran = []
    for words in shell_lines(ROOT / "README.md"):
        if words[0] == "make":
            subprocess.run(["make", "--dry-run", *words[1:]], check=True, capture_output=True)
        else:
            assert words[0] == "python"
            words[words.index("--out") + 1] = str(tmp_path / "answers")
            run_here(words[1:])
        ran.append(words[1])
    assert ran == ["quickstart", "test", "tools/prompt.py"]
    queries = ROOT / "delvm_mm/pretrained/mini/prompts/seg/queries"
    assert len(list((tmp_path / "answers/vis").glob("*.png"))) == len(list(queries.iterdir()))


@by_name(PAGES)
def test_commands_name_tools_options_and_configs_that_there_are(page):
    for words in shell_lines(page):
        line = f"{page.name}: {' '.join(words)}"
        for path in re.findall(r"(?<![\w/])configs/(?!mine/)[\w/]+\.py", line):
            assert (ROOT / path).exists(), line
        for name in re.findall(r"delvm_mm://\w+", line):
            assert name in shipped_names(), line
        first = next((word for word in words if re.match(r"(\$REPO/|\./)?tools/", word) or word == "delvm"), None)
        if first is None:
            continue
        rest = words[words.index(first) + 1 :]
        path = ROOT / first.removeprefix("$REPO/").removeprefix("./")
        assert first == "delvm" or path.exists(), line
        if path.suffix == ".sh":
            if path.name not in ("dist_train.sh", "dist_test.sh", "slurm_train.sh"):
                continue
            path = path.with_name("test.py" if "test" in path.name else "train.py")
        command = rest[0] if first == "delvm" else command_of(path)
        if command is None:
            text = help_of_tool(path)
        else:
            rest = rest[1:] if first == "delvm" else rest
            assert command in COMMANDS, line
            text = help_of_command(command, *(rest[:1] if rest[:1] and rest[0] in SUBCOMMANDS.get(command, ()) else ()))
        known = set(re.findall(r"(?<![\w-])--[\w-]+", text))
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, line


@by_name(PAGES)
def test_files_that_are_named_are_there(page):
    """Of tests, package and tools; configs of mmpose and of one's own are told apart by the tests above."""
    named = re.findall(r"(?<![\w/.])(?:tests|delvm_mm|tools)/[\w/]+\.(?:py|sh)\b", page.read_text("utf-8"))
    assert not [path for path in named if not (ROOT / path).exists()]


@by_name(PAGES)
def test_python_names_what_there_is(page):
    own = [one for one in vars(registries).values() if isinstance(one, registries.Registry)]
    text = page.read_text("utf-8")
    made = set(re.findall(r"register_module\(\)\s+class (\w+)", text))
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
        for line in re.findall(r"^(?:from|import) delvm_mm.*$", block, re.MULTILINE):
            exec(line, {})
        for name in set(re.findall(r"""\btype=["'](\w+)["']""", block)) - made:
            assert any(one.get(name) is not None for one in own), f"{page.name}: there is no {name}"


@by_name([ROOT / "README.md"])
def test_links_of_the_readme_lead_somewhere(page):
    targets = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")) if ":" not in link]
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []
    assert len(page.read_text("utf-8").splitlines()) <= 150


def test_files_that_the_layers_name_are_there():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    paths = re.findall(r"`(\w+/[\w/]+\.py)`", text)
    assert len(paths) > 6
    assert [path for path in paths if not (ROOT / "delvm_mm" / path).exists()] == []
    layers = re.findall(r"^\| \d \| (.+?) \|", text, re.MULTILINE)
    named = {name for layer in layers for name in re.findall(r"`(\w+)`", layer)}
    there = {path.stem for path in (ROOT / "delvm_mm").glob("*") if not path.name.startswith("_")}
    assert named == there


def test_docstrings_are_read_as_what_they_mean():
    text = "A :class:`~delvm_mm.models.DeLVM`, :func:`encode`, see `here <https://x.org>`_::\n\n    data/\n\nExample:\n"
    meant = "A `DeLVM`, `encode`, see [here](https://x.org):\n\n    data/\n\nExamples:"
    assert plain_markdown(text).rstrip() == meant


def test_errors_that_are_explained_are_ours():
    sources = [*(ROOT / "delvm_mm").rglob("*.py"), *(ROOT / "tools").glob("*.*"), ROOT / "Makefile"]
    text = re.sub(r'"\s*\n\s*f?"', "", "".join(path.read_text("utf-8") for path in sources))  # strings over lines
    page = (ROOT / "docs/errors.md").read_text("utf-8")
    installing, ours = page.split("## Answering")
    quoted = re.findall(r"^\| `([^`]+)`", ours, re.MULTILINE)
    assert len(quoted) > 10
    quoted += ["Python 3.10 to 3.14 is needed, this is", "no C compiler for xtcocotools", "cannot be imported ("]
    for quote in quoted:
        assert all(part in text for part in quote.split("...") if len(part) > 3), quote
    assert all(quote in installing for quote in quoted[-3:])


def test_a_dead_snippet_is_seen(tmp_path, monkeypatch):

    page = tmp_path / "page.md"
    page.write_text("```shell\npython tools/train.py configs/mini/teacher.py --no-such-option\n```\n")
    with pytest.raises(AssertionError, match="no-such-option"):
        test_commands_name_tools_options_and_configs_that_there_are(page)
    page.write_text("```python\nfrom delvm_mm.models import NoSuchModel\n```\n")
    with pytest.raises(ImportError):
        test_python_names_what_there_is(page)
    page.write_text('```python\nmodel = dict(type="NoSuchModel")\n```\n')
    with pytest.raises(AssertionError, match="NoSuchModel"):
        test_python_names_what_there_is(page)
