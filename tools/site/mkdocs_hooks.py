"""What mkdocs calls while it builds the site: pages that are generated, and links that leave ``docs/``.

Generated from what they describe, so that they cannot lie: the reference (docstrings, registries, configs, ``--help``),
tutorials (from notebooks, with the outputs stored in them), and pages that lie elsewhere in the repository (changelog,
contributing, cards of the shipped models).
"""

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from api_pages import api_pages
from commands import commands_page
from config_keys import config_keys_page
from notebook_pages import notebook_page
from registries import hooks_page, registry_page

ROOT = Path(__file__).resolve().parents[2]
CARDS = "delvm_mm/pretrained"
INCLUDE = re.compile(r"<!-- include: (.+?) -->")  # a part of the README, so that scores stand in one place
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # of model cards
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def moved_pages() -> dict[str, str]:
    """Files of the repository outside ``docs/`` that are pages or images of the site -> where they are there."""
    moved = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
    for file in sorted((ROOT / CARDS).glob("*/*")):
        if file.suffix == ".png":
            moved[file.relative_to(ROOT).as_posix()] = f"shipped/{file.parent.name}_{file.name}"
        elif file.name == "README.md":
            moved[file.relative_to(ROOT).as_posix()] = f"shipped/{file.parent.name}.md"
    return moved


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are generated."""
    pages: dict[str, str | bytes] = {
        "reference/commands.md": commands_page(ROOT),
        "reference/config_keys.md": config_keys_page(ROOT),
        "reference/hooks.md": hooks_page(ROOT),
        "reference/registry.md": registry_page(),
        **api_pages(ROOT),
    }
    for source, target in moved_pages().items():
        path = ROOT / source
        image = path.suffix == ".png"
        pages[target] = path.read_bytes() if image else FRONT_MATTER.sub("", path.read_text("utf-8"))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(notebook)
        pages |= notebook_page(Path(notebook.abs_src_path), notebook.src_uri.removesuffix(".ipynb"))
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take parts of the README in, and point links to where their file is on the site.

    Links are written so that they work in the repository. Of a file that is no page, such as a config, the name alone
    is kept; mkdocs refuses links to files that there are not.
    """
    here = page.file.src_uri
    source = {target: source for source, target in moved_pages().items()}.get(here, f"docs/{here}")
    markdown = links_on_site(markdown, dirname(source), here)
    return INCLUDE.sub(lambda name: links_on_site(part_of_readme(name[1]), "", here), markdown)


def part_of_readme(name: str) -> str:
    """What stands between the marks ``begin: name`` and ``end: name``."""
    text = (ROOT / "README.md").read_text("utf-8")
    return text.split(f"<!-- begin: {name} -->")[1].split(f"<!-- end: {name} -->")[0].strip()


def links_on_site(markdown: str, folder: str, here: str) -> str:
    """Markdown that was written in a folder of the repository, with links as the page ``here`` needs them."""
    moved = moved_pages() | {"README.md": "index.md"}

    def on_site(link: re.Match) -> str:
        if ":" in link[2]:
            return link[0]
        file = normpath(f"{folder}/{link[2]}" if folder else link[2])
        target = file.removeprefix("docs/") if file.startswith("docs/") else moved.get(file)
        if target is not None:
            return link[1] + relpath(re.sub(r"\.ipynb$", ".md", target), dirname(here) or ".") + link[3]
        return link[1].strip("[](") if (ROOT / file).exists() and link[2].startswith("..") else link[0]

    return LINK.sub(on_site, markdown)
