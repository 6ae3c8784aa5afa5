"""Say what is installed here, what is missing, and the command that mends it.

Checked are the package itself and all that it needs, the OpenMMLab toolboxes, the optional parts, the device, memory,
disk, and the weights and configs that the package carries. It ends with 1 where the package cannot be used as it is.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

__all__ = ["Finding", "examine", "main", "make_parser"]

GIB = 2**30
FREE_MEMORY, FREE_DISK = 1.5 * GIB, 2 * GIB
"""What answering with the shipped model, and what the quick start, want at least."""
OPTIONAL = {
    "lmdb": "data sets in LMDB files",
    "gguf": "delvm convert --to gguf",
    "webui": "delvm page",
}
"""Extras of the package, and what they are for."""
ALTERNATIVES = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""Distribution -> others that provide the same."""
TOOLBOXES = {
    "mmengine": "",
    "mmcv": "",
    "mmpretrain": "classifiers, their metrics and distillation",
    "mmseg": "scores of segmentation",
    "mmpose": "scores of poses",
}
"""Import name -> what it is for, where the package can do without."""


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    """'ok', 'note' (good to know), 'missing' (an optional part) or 'broken' (the package cannot be used)."""
    text: str
    mend: str = ""
    """The command that mends it, or what to do."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser; the command takes no arguments but ``--help``."""
    return argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the report; exit with 1 where something is broken."""
    make_parser().parse_args(arguments)
    broken = missing = 0
    told = set()  # one command may mend several things
    for title, findings in examine():
        print(title)
        for finding in findings:
            print(f"  {finding.state:8}{finding.text}")
            if finding.mend and finding.mend not in told:
                print(f"          -> {finding.mend}")
                told.add(finding.mend)
            broken += finding.state == "broken"
            missing += finding.state == "missing"
    if broken:
        sys.exit(f"{broken} broken: do what stands behind the arrows, from the top, and ask again")
    print("all is well" if not missing else f"all that is needed is here; {missing} optional parts are missing")


def examine() -> Iterator[tuple[str, Iterator[Finding]]]:
    """All parts of the report: title, and what was found."""
    yield "package", package()
    yield "toolboxes", toolboxes()
    yield "optional parts", optional_parts()
    yield "device", device()
    yield "memory and disk", room()
    yield "what the package carries", carried()


def package() -> Iterator[Finding]:
    """Python, the package, and what it requires."""
    supported = (3, 10) <= sys.version_info[:2] <= (3, 14)
    yield Finding(
        "ok" if supported else "broken",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}",
        "" if supported else "make an environment with Python 3.10 to 3.14",
    )
    try:
        yield Finding("ok", f"delvm_mm {metadata.version('delvm_mm')} in {folder()}")
    except metadata.PackageNotFoundError:
        place = folder()
        yield Finding("note", f"delvm_mm is read from {place} and not installed", f"pip install -e {place.parent}")
    for requirement, extra in requirements():
        if extra is None and (fault := fault_of(requirement)):
            yield Finding("broken", fault, f"pip install '{requirement}'")
    for name in ("torch", "torchvision", "numpy", "cv2"):
        fault = import_fault(name)
        if fault is None:
            yield Finding("ok", f"{name} {getattr(sys.modules[name], '__version__', '')}")
        elif importlib.util.find_spec(name) is not None:  # what is not there was named above
            yield Finding("broken", f"{name} is installed and cannot be imported ({fault})", mend_of(name))


def toolboxes() -> Iterator[Finding]:
    """The OpenMMLab toolboxes: one family of them, each usable."""
    known = toolbox_module()
    in_both = [names for names in known.DISTRIBUTIONS.values() if len(names) > 1]
    families = [
        [found for names in in_both for name in names[part] if (found := installed(name))]
        for part in (slice(0, 1), slice(1, None))
    ]
    if all(families):
        both = " ".join(name.split()[0] for name in (*families[0], *families[1]))
        yield Finding(
            "broken",
            f"two families of packages are mixed: {', '.join(families[0])} and {', '.join(families[1])}",
            f"pip uninstall -y {both}, then pip install {known.ONEDL_FAMILY}",
        )
    for name, purpose in TOOLBOXES.items():
        try:
            known.require_toolbox(name)
        except known.ToolboxError as error:
            told = error.fault + (f"; it is for {purpose}" if purpose else "")
            yield Finding("missing" if purpose else "broken", told, error.advice)
        else:
            yield Finding("ok", f"{name}: {known.installed_version(name) or 'of unknown version'}")


def optional_parts() -> Iterator[Finding]:
    """Extras of the package."""
    for extra, purpose in OPTIONAL.items():
        faults = [fault for requirement, of in requirements() if of == extra and (fault := fault_of(requirement))]
        if faults:
            yield Finding("missing", f"{', '.join(faults)}: for {purpose}", f"pip install 'delvm_mm[{extra}]'")
        else:
            yield Finding("ok", f"{extra}: {purpose}")


def device() -> Iterator[Finding]:
    """Where models run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if import_fault("torch") is not None:
        yield Finding("note", f"{cores} CPU cores; of a GPU nothing is known without torch")
        return
    import torch

    yield Finding("ok", f"{cores} CPU cores, {torch.get_num_threads()} threads, {cpu_precision()}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            known = torch.cuda.get_device_properties(number)
            yield Finding(
                "ok",
                f"GPU {number}: {known.name}, {known.total_memory / GIB:.0f} GiB, compute capability "
                f"{known.major}.{known.minor}",
            )
    elif shutil.which("nvidia-smi"):
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        yield Finding(
            "missing",
            f"there is an NVIDIA driver, but torch {torch.__version__} ({built}) sees no GPU",
            "nvidia-smi shows whether the driver works; then install the torch for its CUDA version: "
            "https://pytorch.org/get-started/locally",
        )
    else:
        yield Finding("note", "no GPU: models run on the CPU, which the shipped model is made for")


def room() -> Iterator[Finding]:
    """Free memory and disk."""
    free, total = memory()
    if free is None:
        yield Finding("note", "how much memory is free is not known on this system")
    else:
        enough = free >= FREE_MEMORY
        yield Finding(
            "ok" if enough else "note",
            f"{free / GIB:.1f} of {total / GIB:.1f} GiB of memory are free",
            "" if enough else f"end other programs: answers with the shipped model want {FREE_MEMORY / GIB:.1f} GiB",
        )
    free = shutil.disk_usage(os.getcwd()).free
    enough = free >= FREE_DISK
    yield Finding(
        "ok" if enough else "note",
        f"{free / GIB:.1f} GiB of disk are free in {os.getcwd()}",
        ""
        if enough
        else f"delete what is not needed, or work elsewhere: the quick start wants {FREE_DISK / GIB:.0f} GiB",
    )


def carried() -> Iterator[Finding]:
    """Weights and configs that come with the package."""
    reinstall = "pip install --force-reinstall --no-deps delvm_mm"
    for place in sorted((folder() / "pretrained").glob("*/config.json")):
        weights = list(place.parent.glob("*.safetensors"))
        # A pointer that git-lfs has left instead of the file is shorter than any weights.
        whole = bool(weights) and all(path.stat().st_size > 1024 for path in weights)
        size = sum(path.stat().st_size for path in place.parent.rglob("*") if path.is_file())
        yield Finding(
            "ok" if whole else "broken",
            f"delvm_mm://{place.parent.name}, {size / 1e6:.1f} MB" + ("" if whole else ": its weights are not whole"),
            "" if whole else reinstall,
        )
    roots = [root for root in (folder() / ".mim" / "configs", folder().parent / "configs") if root.is_dir()]
    if roots:
        yield Finding("ok", f"{len(list(roots[0].glob('*/*.py')))} configs in {roots[0]}")
    else:
        yield Finding("missing", "the configs: a config is named by its path alone", reinstall)


def folder() -> Path:
    """Where ``delvm_mm`` lies, found without importing it."""
    spec = importlib.util.find_spec("delvm_mm")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("broken: there is no delvm_mm for this Python\n  -> pip install 'delvm_mm[onedl]'")
    return Path(next(iter(spec.submodule_search_locations)))


def toolbox_module() -> ModuleType:
    """``delvm_mm.toolboxes``, which imports nothing, without ``delvm_mm``, which wants MMEngine."""
    spec = importlib.util.spec_from_file_location("delvm_toolboxes", folder() / "toolboxes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requirements() -> Iterator[tuple[str, str | None]]:
    """What the installed package requires here: requirement without markers, and the extra that it is of."""
    try:
        lines = metadata.requires("delvm_mm") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*[\"']([\w-]+)[\"']", marker)
        yield requirement.strip(), extra[1] if extra else None


def fault_of(requirement: str) -> str | None:
    """What is wrong with a requirement such as ``'torch>=2.1'``; None where it is met."""
    name = re.match(r"[\w.-]+", requirement)[0]
    found = next(filter(None, map(installed, (name, *ALTERNATIVES.get(name, ())))), None)
    if found is None:
        return f"{name} is not installed"
    try:
        from packaging.requirements import Requirement
    except ImportError:  # then versions are not compared
        return None
    return None if found.split()[1] in Requirement(requirement).specifier else f"{found}, wanted is {requirement}"


def installed(distribution: str) -> str | None:
    """Name and version of a distribution, None where it is not installed."""
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return None


def import_fault(name: str) -> str | None:
    """Why a module cannot be imported, in one line; None where it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # libraries that do not fit each other raise whatever they like
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def mend_of(name: str) -> str:
    """The command for a module that is there and cannot be imported."""
    if name == "cv2" and platform.system() == "Linux":
        return "apt-get install -y libgl1 libglib2.0-0, or pip install opencv-python-headless in place of opencv-python"
    distribution = {"cv2": "opencv-python"}.get(name, name)
    with_torch = "torch torchvision" if name in ("torch", "torchvision") else distribution
    return f"pip install --force-reinstall {with_torch}"


def cpu_precision() -> str:
    """How the CPU computes in bfloat16, in words."""
    try:
        from delvm_mm.hardware import has_bfloat16
    except ImportError:
        return "bfloat16 not known"
    return "bfloat16 in hardware" if has_bfloat16("cpu") else "no bfloat16 in hardware (float32 is used)"


def memory() -> tuple[int | None, int]:
    """Free and total bytes of memory, of the container where that has less; (None, 0) where they are not known."""
    info = Path("/proc/meminfo")
    if info.is_file():
        known = dict(re.findall(r"^(\w+):\s+(\d+) kB$", info.read_text(), re.MULTILINE))
        free, total = int(known.get("MemAvailable", known["MemFree"])) * 1024, int(known["MemTotal"]) * 1024
        limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
        if limit.is_file() and (text := limit.read_text().strip()).isdecimal() and int(text) < total:
            total = int(text)
            free = min(free, max(total - int(used.read_text()), 0))
        return free, total
    try:
        import psutil
    except ImportError:
        return None, 0
    known = psutil.virtual_memory()
    return known.available, known.total
