"""Build and install ``delvm_mm``; the project's metadata stands here, tool settings in ``pyproject.toml``."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def read_version() -> str:
    """Version of the package, without importing it."""
    for line in (ROOT / "delvm_mm" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("delvm_mm/__init__.py has no __version__")


class BuildWithConfigs(build_py):
    """Put configs, tools and the model index into ``delvm_mm/.mim``, where OpenMIM and MMEngine look for them."""

    def run(self) -> None:
        """Build the package, then copy them beside it."""
        super().run()
        target = Path(self.build_lib) / "delvm_mm" / ".mim"
        shutil.rmtree(target, ignore_errors=True)
        for name in ("configs", "tools"):
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        shutil.copy(ROOT / "model-index.yml", target)


setup(
    name="delvm_mm",
    version=read_version(),
    description="Data-efficient large vision models (DeLVM) for the OpenMMLab toolboxes",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["delvm", "delvm_mm", "delvm_mm.*"]),
    entry_points={"console_scripts": ["delvm = delvm.cli:main"]},
    package_data={
        "delvm_mm.generation": ["*.c"],
        "delvm_mm.pretrained": ["*/*", "*/*/*", "*/*/*/*", "*/*/*/*/*"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.10",
    # MMEngine and its toolboxes exist under two sets of distribution names with the same import names. Only one of the
    # two may be installed, so neither is forced: choose one with an extra.
    install_requires=[
        "torch>=2.1",
        "torchvision",
        "numpy>=1.26",
        "pillow>=9.5",
        "opencv-python",
        "scipy",
        "scikit-image>=0.21",
        "torchmetrics>=1.0",
        "safetensors",
        "filelock",
        "pycocotools",
        "rich",
        "tensorboard",
        "shtab",
    ],
    extras_require={
        "onedl": [
            "onedl-mmengine>=0.10.12",
            "onedl-mmcv>=2.3.6",
            "onedl-mmpretrain>=1.3.6",
            "onedl-mmsegmentation>=1.4.2",
        ],
        "openmmlab": ["mmengine>=0.10.4", "mmcv-lite>=2.1,<2.2", "mmpretrain>=1.2", "mmsegmentation>=1.2"],
        "lmdb": ["lmdb>=1.4"],
        "gguf": ["gguf>=0.10"],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5,<10",
            "mkdocstrings[python]>=1",
            "nbformat",
            "nbclient",
            "ipykernel",
        ],
        "webui": ["gradio>=5.50,<6"],  # 6 wants a huggingface-hub that transformers 4 cannot work with
        "tests": [
            "pytest>=7",
            "transformers>=4.40,<5",  # mmpretrain.models cannot be imported beside 5
            "diffusers>=0.27",
            "gguf>=0.10",
            "lmdb>=1.4",
            "pytest-xdist",
            "ruff>=0.17,<0.18",
            "playwright>=1.40",
            "import-linter>=2",
            "codespell>=2.4",
            "build>=1",
        ],
    },
)
