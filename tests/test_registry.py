import ast
import json
import subprocess
import sys

import pytest
from mmengine import registry
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope, Registry

from delvm_mm import registry as registries
from delvm_mm.models import LLaMA
from helpers import ROOT

TINY = dict(arch=dict(embed_dims=16, num_layers=1, num_heads=2))


def test_a_default_scope_is_enough_to_build_from_mmengines_registry():
    with DefaultScope.overwrite_default_scope("delvm_mm"):
        assert isinstance(ROOT_MODELS.build(dict(type="LLaMA", **TINY)), LLaMA)


def test_the_scope_is_found_in_every_registry_of_mmengine():
    roots = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
    assert len(roots) > 20 and [name for name, root in roots.items() if "delvm_mm" not in root.children] == []


def test_another_toolbox_can_name_our_models_by_scope():
    mmpretrain = pytest.importorskip("mmpretrain.registry")
    assert isinstance(mmpretrain.MODELS.build(dict(type="delvm_mm.LLaMA", **TINY)), LLaMA)


def test_nothing_has_to_be_imported_by_hand():
    code = (
        "from mmengine.registry import MODELS, init_default_scope; init_default_scope('delvm_mm');"
        f"print(type(MODELS.build(dict(type='LLaMA', arch={TINY['arch']}))).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "delvm_mm.models.backbones.llama"


def registered() -> list[tuple[str, str, str]]:
    """Registry, module and name of every class and function with ``register_module`` above it."""
    found = []
    for path in sorted((ROOT / "delvm_mm").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "register_module":
                    names = {word.arg: ast.literal_eval(word.value) for word in call.keywords}.get("name", node.name)
                    names = [names] if isinstance(names, str) else names
                    found += [(call.func.value.id, module, name) for name in names]
    return found


def test_every_registry_knows_the_modules_that_register_in_it():
    for where, module, name in registered():
        places = getattr(registries, where)._locations
        assert any(f"{module}.".startswith(f"{place}.") for place in places), f"{where}: {name} is in none of {places}"


def test_every_name_is_found_when_only_the_package_has_been_imported():
    names = [(registry, name) for registry, _, name in registered()]
    assert ("MODELS", "DeLVM") in names and len(names) > 100
    code = f"""
import json
import delvm_mm
from mmengine import registry
missing = [pair for pair in {names} if getattr(registry, pair[0]).get("delvm_mm." + pair[1]) is None]
from delvm_mm.registry import MODELS, TRANSFORMS
missing += [name for name in ("DeLVM", "BaseDataPreprocessor") if MODELS.get(name) is None]
missing += [name for name in ("PackClip", "LoadImageFromFile") if TRANSFORMS.get(name) is None]
print(json.dumps(missing))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*/*.py")), ids=lambda path: path.stem)
def test_every_config_parses(path):
    cfg = Config.fromfile(path)
    if path.parent.name in ("delvm", "mini", "mini_long", "quickstart") and not path.stem.startswith("_"):
        assert cfg.get("model") or cfg.get("stores")


def test_the_built_package_carries_its_configs_and_tools(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", tmp_path / "base", "--build-lib", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    mim = tmp_path / "delvm_mm" / ".mim"
    assert (mim / "configs/delvm/llama300m_kd.py").is_file()
    assert (mim / "tools/train.py").is_file()
    assert (mim / "model-index.yml").is_file()
    assert (tmp_path / "delvm/doctor.py").is_file()
    assert (tmp_path / "delvm_mm/datasets/procedural/scenes.py").is_file()
