"""MMEngine's new-style configs, which name classes: everything that looks at a ``type`` takes both."""

from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from delvm_mm import registry
from delvm_mm.commands.train import use_autocast
from delvm_mm.engine.configs.hooks import hooks_of
from delvm_mm.engine.launch import check_precision, load_config
from delvm_mm.models import VQGAN, CodebookEmbedding, load_tokenizer
from delvm_mm.registry import type_name

MINI = Path(__file__).resolve().parents[2] / "configs" / "mini"
KINDS = ("MODELS", "HOOKS", "DATASETS", "DATA_SAMPLERS", "LOOPS", "OPTIM_WRAPPERS", "OPTIMIZERS", "TASK_UTILS",
         "EVALUATOR", "TRANSFORMS", "PARAM_SCHEDULERS")  # fmt: skip


class Name(str):
    """A name that is written as it is, for a class."""

    __repr__ = str.__str__


def with_classes(value, imports):
    """The same config with classes instead of names."""
    if isinstance(value, dict):
        value = {key: with_classes(entry, imports) for key, entry in value.items()}
        if isinstance(kind := value.get("type"), str) and "." not in kind:  # toolboxes stay names
            classes = (getattr(registry, name).get(kind) for name in KINDS)
            cls = next((cls for cls in classes if isinstance(cls, type)), None)
            if cls is not None:
                imports.add(f"from {cls.__module__} import {cls.__name__}")
                value["type"] = Name(cls.__name__)
        return value
    return [with_classes(entry, imports) for entry in value] if isinstance(value, list | tuple) else value


def lazy(name, folder):
    """A config of configs/mini, written as a new-style one and read again."""
    with DefaultScope.overwrite_default_scope("delvm_mm"):
        imports = set()
        content = with_classes(load_config(str(MINI / f"{name}.py")).to_dict(), imports)
    lines = [*sorted(imports), *(f"{key} = {value!r}" for key, value in content.items())]
    path = folder / f"lazy_{name}.py"
    path.write_text("\n".join(lines))
    cfg = load_config(str(path))
    assert cfg._imported_names or cfg.model.type.__module__.startswith("delvm_mm."), "the config is not a lazy one"
    return cfg


@pytest.mark.parametrize("name", ["teacher", "student", "student_kd", "tokenizer", "decoder", "finetune_seg"])
def test_mini_configs_with_classes_are_those_with_names(tmp_path, name):
    plain, cfg = load_config(str(MINI / f"{name}.py")), lazy(name, tmp_path)
    assert [type_name(hook) for hook in hooks_of(cfg)] == [type_name(hook) for hook in hooks_of(plain)]
    check_precision(cfg)
    with DefaultScope.overwrite_default_scope("delvm_mm"):
        shapes, expected = (
            {key: value.shape for key, value in registry.MODELS.build(each.model).state_dict().items()}
            for each in (cfg, plain)
        )
    assert shapes == expected


def test_the_codebook_is_the_tokenizers_and_the_tokenizer_that_of_its_folder(tmp_path):
    cfg = lazy("student", tmp_path)
    assert cfg.model.embedding.type is CodebookEmbedding
    tokenizer = load_tokenizer(dict(type=VQGAN, pretrained="delvm_mm://mini_tokenizer"))
    with DefaultScope.overwrite_default_scope("delvm_mm"):
        model = registry.MODELS.build(cfg.model)
    assert model.tokenizer_digest.equal(model._digest()) and model.tokenizer.fingerprint == tokenizer.fingerprint


def test_mixed_precision_replaces_the_class_of_the_wrapper(tmp_path):
    path = tmp_path / "lazy.py"
    path.write_text(
        "from mmengine.optim import AmpOptimWrapper, OptimWrapper\n"
        "from torch.optim import AdamW\n"
        "optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))\n"
        "other = dict(type=AmpOptimWrapper)\n"
    )
    cfg = load_config(str(path))
    use_autocast(cfg, str(path))
    assert type_name(cfg.optim_wrapper) == "AutocastOptimWrapper"
    cfg.optim_wrapper.type = cfg.other.type
    with pytest.raises(ValueError, match="has AmpOptimWrapper; leave --amp out"):
        use_autocast(cfg, str(path))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(None, ""), ("LLaMA", "LLaMA"), ("delvm_mm.LLaMA", "LLaMA"), (VQGAN, "VQGAN"),
     ("delvm_mm.models.tokenizers.vqgan.VQGAN", "VQGAN")],
)  # fmt: skip
def test_a_type_has_one_name_however_it_is_given(kind, name):
    assert type_name(kind) == type_name(dict(type=kind)) == name
