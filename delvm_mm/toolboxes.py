"""The one place that imports OpenMMLab toolboxes which not every task needs (mmseg, mmpose, mmpretrain).

:func:`require_toolbox` imports one, or says in one sentence what is wrong with it and what to install.
"""

import importlib
import importlib.util
from importlib import metadata
from types import ModuleType

ONEDL_FAMILY = "onedl-mmengine onedl-mmcv onedl-mmpretrain onedl-mmsegmentation"
UPSTREAM_FAMILY = "mmengine==0.10.7 mmcv-lite==2.1.0 mmpretrain==1.2.0 mmsegmentation==1.2.2"

# Import name -> names of the distributions that provide it: the maintained successor first, then upstream's own.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmcv": ("onedl-mmcv", "mmcv-lite", "mmcv"),
    "mmpretrain": ("onedl-mmpretrain", "mmpretrain"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "mmpose": ("mmpose",),
}
# Import names of what mmpose needs and `--no-deps` leaves out.
MMPOSE_NEEDS = ("json_tricks", "munkres", "xtcocotools", "pycocotools")


class ToolboxError(ImportError):
    """A toolbox is missing or unusable.

    Args:
        fault: What is wrong.
        advice: What to install.
    """

    def __init__(self, fault: str, advice: str) -> None:
        super().__init__(f"{fault}: {advice}")
        self.fault = fault
        self.advice = advice


def require_toolbox(name: str) -> ModuleType:
    """Import an OpenMMLab toolbox, or one of its modules.

    Args:
        name: Import name, such as ``'mmseg'`` or, for one module, ``'mmseg.evaluation'``.

    Returns:
        The module.

    Raises:
        ValueError: ``name`` is not of a toolbox that this package works with.
        ToolboxError: The toolbox is not installed, or is installed and cannot be imported (of a version that refuses
            its neighbors, without compiled ops that the module wants, ...). One sentence says which version was
            found, what went wrong and what to install.

    Example:
        >>> require_toolbox("mmseg.evaluation").IoUMetric
        <class 'mmseg.evaluation.metrics.iou_metric.IoUMetric'>
    """
    toolbox = name.partition(".")[0]
    if toolbox not in DISTRIBUTIONS:
        raise ValueError(f"unknown toolbox {toolbox!r} in {name!r}: expected one of {', '.join(DISTRIBUTIONS)}")
    try:
        importlib.import_module(toolbox)
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        if err.name == toolbox:
            raise ToolboxError(*_missing(toolbox)) from err
        raise ToolboxError(*_unusable(name, toolbox, err)) from err
    except Exception as err:  # a version check is an AssertionError, a wheel for another numpy a ValueError, ...
        raise ToolboxError(*_unusable(name, toolbox, err)) from err


def require_installed(toolbox: str) -> None:
    """Refuse to go on without a toolbox, without the time that importing it would take.

    Args:
        toolbox: Import name, a key of :data:`DISTRIBUTIONS`.

    Raises:
        ToolboxError: It is not installed. One sentence says what to install.
    """
    try:
        found = importlib.util.find_spec(toolbox)
    except (ImportError, ValueError):  # kept from being imported, by a finder or by None in sys.modules
        found = None
    if found is None:
        raise ToolboxError(*_missing(toolbox))


def installed_version(toolbox: str) -> str | None:
    """Find which distribution of a toolbox is installed, without importing it.

    Args:
        toolbox: Import name, a key of :data:`DISTRIBUTIONS`.

    Returns:
        Such as ``'onedl-mmsegmentation 1.4.2'``; ``None`` where there is none.
    """
    for distribution in DISTRIBUTIONS[toolbox]:
        try:
            return f"{distribution} {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    return None


def _missing(toolbox: str) -> tuple[str, str]:
    return f"{toolbox} is needed here and is not installed", _advice(toolbox)


def _unusable(name: str, toolbox: str, err: Exception) -> tuple[str, str]:
    found = installed_version(toolbox) or f"{toolbox} of unknown version"
    cause = " ".join(str(err).split()).rstrip(".")  # one line, whatever the toolbox wrote
    if len(cause) > 240:
        cause = cause[:240] + "..."
    missing = (getattr(err, "name", None) or "") if isinstance(err, ModuleNotFoundError) else ""
    if missing.startswith(("mmcv._ext", "mmcv.ops")):
        advice = (
            "it wants mmcv's compiled ops, which nothing in this package needs and the onedl packages do without, so "
            f"uninstall the upstream packages and run `pip install {ONEDL_FAMILY}`"
        )
    elif missing and missing.partition(".")[0] not in {*DISTRIBUTIONS, *MMPOSE_NEEDS}:
        advice = f"install the package that provides {missing.partition('.')[0]}"
    else:
        advice = _advice(toolbox)
    return f"{found} is installed, but {name} cannot be imported ({type(err).__name__}: {cause})", advice


def _advice(toolbox: str) -> str:
    if toolbox == "mmpose":
        return (
            "run `pip install --no-deps mmpose==1.3.2` and `pip install json-tricks munkres pycocotools`, and build "
            "xtcocotools for the numpy that you have with `pip install cython setuptools wheel` and `pip install "
            "--no-deps --no-binary :all: --no-build-isolation xtcocotools`"
        )
    return (
        "install one of the two families of packages and not both, "
        f"`pip install {ONEDL_FAMILY}` or `pip install {UPSTREAM_FAMILY}`"
    )
