"""``VisionLLaMA``: what sees what, what comes out, and where weights come from."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from delvm_mm.models import LLaMA

pytest.importorskip("mmpretrain")
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from delvm_mm.models import VisionLLaMA
from delvm_mm.registry import MODELS
from helpers.tiny_classifier import classifier

TINY = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=48)
# Large deviations, so that attention is far from uniform.
LIVELY = dict(arch=TINY, img_size=16, patch_size=4, init_std=0.3)


def build(**changes):
    torch.manual_seed(0)
    return VisionLLaMA(**{**LIVELY, **changes}).eval()


def changed_patch(images, row, column):
    changed = images.clone()
    changed[:, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 1
    return changed


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [
        (dict(), [(2, 32)]),
        (dict(out_type="raw"), [(2, 17, 32)]),
        (dict(out_type="featmap", out_indices=(0, -1)), [(2, 32, 4, 4)] * 2),
        (dict(out_type="avg_featmap", with_cls_token=False), [(2, 32)]),
        (dict(out_type="raw", with_cls_token=False, rope="2d", with_pos_embed=True), [(2, 16, 32)]),
        (dict(attention="soft", rope=None, drop_path_rate=0.5, layer_scale_init_value=1e-4), [(2, 32)]),
        (dict(img_size=(8, 16), in_channels=1, out_type="featmap"), [(2, 32, 2, 4)]),
    ],
)
def test_features_have_the_shape_of_their_type(changes, shapes):
    model = build(**changes)
    height, width = model.img_size
    images = torch.rand(2, changes.get("in_channels", 3), height, width)
    outputs = model.train()(images)
    assert [tuple(output.shape) for output in outputs] == shapes
    sum(output.sum() for output in outputs).backward()
    used = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert used == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(attention="masked"), "attention is 'masked'"),
        (dict(out_type="pooled"), "out_type is 'pooled'"),
        (dict(rope="3d"), "rope is '3d'"),
        (dict(with_cls_token=False), "avg_featmap"),
        (dict(out_indices=3), "out_indices is 3, expected one or several of -3 to 2"),
        (dict(frozen_stages=4), "frozen_stages is 4"),
        (dict(drop_path_rate=1.0), "drop_path_rate"),
        (dict(img_size=2), "smaller than a patch"),
        (dict(arch=dict(embed_dims=24, num_layers=1, num_heads=4), rope="2d"), "a multiple of 4"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_with_causal_attention_a_patch_changes_nothing_before_it_and_the_class_token_sees_all():
    model = build(out_type="raw")
    images = torch.rand(1, 3, 16, 16)
    before = model(images)[0]
    for row, column in ((0, 0), (1, 2), (3, 3)):
        after = model(changed_patch(images, row, column))[0]
        place = row * 4 + column
        torch.testing.assert_close(after[:, :place], before[:, :place])
        moved = (after - before).abs().amax(-1)[0] > 1e-4
        assert moved[place] and moved[-1], "the patch itself and the class token, which stands last"


def test_with_bidirectional_attention_every_token_sees_every_patch():
    model = build(out_type="raw", attention="bidirectional")
    images = torch.rand(1, 3, 16, 16)
    moved = (model(changed_patch(images, 3, 3))[0] - model(images)[0]).abs().amax(-1)
    assert (moved > 1e-4).all()


def attention_by_hand(layer, hidden, angle, seen):
    """Softmax attention written out, one head and one query at a time; ``seen[i, j]`` weighs token j for token i."""
    heads, size = layer.num_heads, hidden.shape[-1] // layer.num_heads

    def turned(row, theta):
        half = size // 2
        turn = torch.complex(theta[:half].cos(), theta[:half].sin())
        value = torch.complex(row[:half], row[half:]) * turn
        return torch.cat((value.real, value.imag))

    query, key, value = (p(hidden) for p in (layer.q_proj, layer.k_proj, layer.v_proj))
    out = torch.zeros_like(hidden)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(hidden)):
            scores = torch.stack(
                [
                    turned(query[i, part], angle[i]) @ turned(key[j, part], angle[j]) / size**0.5
                    for j in range(len(hidden))
                ]
            )
            weights = scores.exp() * seen[i]
            out[i, part] = (weights / weights.sum()) @ value[:, part]
    return layer.o_proj(out)


@pytest.mark.parametrize("attention", ["causal", "bidirectional", "soft"])
@pytest.mark.parametrize("rope", ["1d", "2d", None])
@torch.no_grad()
def test_attention_equals_the_formula_written_out(attention, rope):
    model = build(attention=attention, rope=rope, img_size=12)
    if attention == "soft":
        model.bidirectional_share.fill_(0.3)
    hidden = torch.randn(10, 32)
    place = torch.arange(10.0)
    row, column = place // 3, place % 3
    row[-1], column[-1] = 2, 3  # the class token: right behind the last patch
    quarter = 10000.0 ** -(torch.arange(2) / 2)
    angle = {
        "1d": place[:, None] * 10000.0 ** -(torch.arange(4) / 4),
        "2d": torch.cat((row[:, None] * quarter, column[:, None] * quarter), dim=1),
        None: torch.zeros(10, 4),
    }[rope]
    later = dict(causal=0.0, bidirectional=1.0, soft=0.3)[attention]
    seen = torch.ones(10, 10).tril() + later * torch.ones(10, 10).triu(1)
    layer = model.layers[0].self_attn
    mask = model._blended_mask(hidden[None]) if attention == "soft" else None
    ours = layer(hidden[None], model._patch_rope((3, 3), hidden), mask)[0]
    torch.testing.assert_close(ours, attention_by_hand(layer, hidden, angle, seen), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("peer", ["LLaMA", "transformers"])
@torch.no_grad()
def test_the_causal_stack_is_that_of_language(peer):
    model = build(out_type="raw")
    stack = {name: value for name, value in model.state_dict().items() if name.startswith(("layers.", "norm."))}
    images = torch.rand(2, 3, 16, 16)
    embeddings = torch.cat((model.patch_embed(images)[0], model.cls_token.expand(2, -1, -1)), dim=1)
    if peer == "LLaMA":
        other = LLaMA(TINY).eval()
        other.load_state_dict(stack)
        expected = other(embeddings)
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.LlamaConfig(
            vocab_size=1, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            rms_norm_eps=1e-5, attention_bias=True,
        )  # fmt: skip
        other = transformers.LlamaModel(config).eval()
        assert other.load_state_dict(stack, strict=False).missing_keys == ["embed_tokens.weight"]
        expected = other(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(model(images)[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("share", "attention"), [(1.0, "bidirectional"), (0.0, "causal")])
@torch.no_grad()
def test_both_ends_of_the_blend_are_plain_attention(share, attention):
    soft, plain = build(attention="soft", out_type="raw"), build(attention=attention, out_type="raw")
    soft.bidirectional_share.fill_(share)
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(soft(images)[0], plain(images)[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_blend_is_in_checkpoints():
    soft = build(attention="soft")
    soft.bidirectional_share.fill_(0.25)
    loaded = build(attention="soft")
    loaded.load_state_dict(soft.state_dict())
    assert loaded.bidirectional_share == 0.25
    assert "bidirectional_share" not in build().state_dict()


@torch.no_grad()
def test_stochastic_depth_and_layer_scale_do_what_their_names_say():
    plain = build(out_type="raw")
    images = torch.rand(64, 3, 16, 16)
    skipping = build(out_type="raw", drop_path_rate=0.9)
    torch.testing.assert_close(skipping(images)[0], plain(images)[0])
    # The last layer's rate is 0.9, and the first one's 0.
    layer, first = skipping.train().layers[-1], skipping.layers[0]
    hidden, rope = torch.randn(64, 17, 32), plain._patch_rope((4, 4), torch.zeros(1))
    kept = (layer(hidden, rope) - hidden).abs().amax((1, 2)) > 1e-6
    assert 0 < kept.float().mean() < 0.45, "19 % of samples pass attention or SwiGLU"
    torch.testing.assert_close(first(hidden, rope), plain.layers[0](hidden, rope))
    scaled = build(out_type="raw", layer_scale_init_value=1e-9)
    embedded = torch.cat((scaled.patch_embed(images)[0], scaled.cls_token.expand(64, -1, -1)), dim=1)
    torch.testing.assert_close(scaled(images)[0], scaled.norm(embedded), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_larger_images_get_positions_between_those_of_training():
    model = build(with_pos_embed=True, out_type="raw")
    cos, _ = model._patch_rope((8, 8), torch.zeros(1))
    # Twice the size: the middle of a patch of training lies between four finer ones, half a step from each row's.
    fine = (torch.arange(8) + 0.5) / 2 - 0.5
    place = (fine[:, None] * 4 + fine).flatten()
    torch.testing.assert_close(cos[:-1, 0], place.cos())
    torch.testing.assert_close(cos[-1, 0], torch.tensor(16.0).cos())
    assert model(torch.rand(1, 3, 32, 32))[0].shape == (1, 65, 32)
    expected = F.interpolate(
        model.pos_embed[:, :16].reshape(1, 4, 4, 32).permute(0, 3, 1, 2), size=(8, 8), mode="bicubic"
    )
    larger = build(with_pos_embed=True, img_size=32)
    larger.load_state_dict(model.state_dict())
    torch.testing.assert_close(larger.feature_map(larger.pos_embed), expected)
    torch.testing.assert_close(larger.pos_embed[:, -1], model.pos_embed[:, -1])


@pytest.mark.parametrize("changes", [dict(), dict(drop_path_rate=0.1, layer_scale_init_value=0.1)])
def test_the_stack_of_a_delvm_initializes_it(tmp_path, changes):
    delvm = LLaMA(TINY, init_std=0.5)
    checkpoint = {f"backbone.{name}": value for name, value in delvm.state_dict().items()}
    checkpoint["head.projection.weight"] = torch.zeros(8, 32)
    torch.save(dict(state_dict=checkpoint, meta={}), tmp_path / "delvm.pth")
    pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "delvm.pth"), prefix="backbone.")
    model = build(init_cfg=pretrained, **changes)
    model.init_weights()
    loaded = model.state_dict()
    for name, value in delvm.state_dict().items():
        torch.testing.assert_close(loaded[name], value)


def test_a_classifiers_backbone_initializes_one_for_larger_images(tmp_path):
    small = build(with_pos_embed=True)
    torch.save(dict(state_dict={f"backbone.{k}": v for k, v in small.state_dict().items()}), tmp_path / "it.pth")
    pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "it.pth"), prefix="backbone.")
    large = build(with_pos_embed=True, img_size=32, init_cfg=pretrained)
    large.init_weights()
    torch.testing.assert_close(large.cls_token, small.cls_token)
    assert large.pos_embed.shape[1] == 65


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (dict(TINY, num_layers=2), "lacks 13 of the 40 parameters of the stack"),
        (dict(TINY, num_layers=4), "has more layers"),
        (dict(TINY, feedforward_channels=64), "another shape"),
    ],
)
def test_a_stack_of_another_shape_is_refused(tmp_path, arch, message):
    torch.save({f"backbone.{k}": v for k, v in LLaMA(arch).state_dict().items()}, tmp_path / "other.pth")
    pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "other.pth"), prefix="backbone.")
    with pytest.raises(ValueError, match=message):
        build(init_cfg=pretrained).init_weights()


def test_depths_of_parameters_are_those_of_mmpretrains_transformer():
    from mmpretrain.models import VisionTransformer

    arch = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=48)
    peer = VisionTransformer(arch, img_size=16, patch_size=4)
    model = build(with_pos_embed=True)
    pairs = {
        "backbone.cls_token": "backbone.cls_token",
        "backbone.pos_embed": "backbone.pos_embed",
        "backbone.patch_embed.projection.weight": "backbone.patch_embed.projection.weight",
        "backbone.layers.0.mlp.up_proj.weight": "backbone.layers.0.ffn.layers.0.0.weight",
        "backbone.layers.2.input_layernorm.weight": "backbone.layers.2.ln1.weight",
        "backbone.norm.weight": "backbone.ln1.weight",
        "head.layers.head.weight": "head.layers.head.weight",
    }
    for ours, theirs in pairs.items():
        assert model.get_layer_depth(ours, "backbone.") == peer.get_layer_depth(theirs, "backbone.")


def test_training_goes_on_after_inference_mode():
    model = build()
    with torch.inference_mode():
        model(torch.rand(2, 3, 16, 16))
    model.train()(torch.rand(2, 3, 16, 16))[-1].sum().backward()
    assert model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0


def test_no_images_have_no_features():
    assert build()(torch.rand(0, 3, 16, 16))[-1].shape == (0, 32)


def test_frozen_stages_have_no_gradient_and_stay_in_evaluation_mode():
    model = build(frozen_stages=2, with_pos_embed=True, drop_path_rate=0.5).train()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(("layers.2", "norm"))}
    assert [layer.training for layer in model.layers] == [False, False, True] and not model.patch_embed.training
    assert model.eval() is model
    assert not any(parameter.requires_grad for parameter in build(frozen_stages=3).parameters())


def test_grad_cam_finds_the_features_of_each_patch_and_their_gradients():
    model = build()
    seen = []

    def keep(module, args, output):
        output.retain_grad()
        seen.append(output)

    model.layers[-1].input_layernorm.register_forward_hook(keep)
    model(torch.rand(1, 3, 16, 16))[-1][0, 5].backward()
    tokens, features, slopes = seen[0], model.feature_map(seen[0]), model.feature_map(seen[0].grad)
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(features[0, :, row, column], tokens[0, row * 4 + column])
    assert (slopes.abs().amax(1) > 0).all(), "the class token reads every patch"


def test_gradient_checkpointing_changes_neither_values_nor_gradients():
    plain, saving = build().train(), build(with_cp=True).train()
    images = torch.rand(2, 3, 16, 16)
    for model in (plain, saving):
        model(images)[0].square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_it_is_mmpretrains_kind_of_backbone_and_is_built_by_its_registry():
    from mmpretrain.models.backbones.base_backbone import BaseBackbone
    from mmpretrain.registry import MODELS as MMPRETRAIN

    for registry in (MODELS, MMPRETRAIN):
        model = registry.build(dict(type="delvm_mm.VisionLLaMA", **LIVELY))
        assert isinstance(model, VisionLLaMA) and isinstance(model, BaseBackbone)


def test_language_models_do_without_mmpretrain():
    code = (
        "import sys; sys.modules['mmpretrain'] = None\n"
        "from delvm_mm.models import LLaMA\n"
        "from delvm_mm.registry import MODELS\n"
        "MODELS.build(dict(type='LLaMA', arch=dict(embed_dims=16, num_layers=1, num_heads=2)))\n"
        "try: MODELS.build(dict(type='VisionLLaMA'))\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "mmpretrain is needed here and is not installed" in done.stdout.strip().splitlines()[-1]


def test_mmengine_counts_parameters_and_flops():
    from mmengine.analysis import get_model_complexity_info

    model = build()
    info = get_model_complexity_info(model, (3, 16, 16), show_table=False, show_arch=False)
    assert info["params"] == sum(parameter.numel() for parameter in model.parameters())
    # MMEngine counts multiply-adds of linear layers and convolutions, and norms; it has no count for SDPA.
    tokens, width, hidden = 17, 32, 48
    products = 16 * 48 * width + 3 * tokens * (4 * width**2 + 3 * width * hidden)
    assert products <= info["flops"] < 1.05 * products


def test_an_80m_learns_64_random_labels_by_heart():
    torch.manual_seed(0)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(1000, (64,))
    model, head = VisionLLaMA("80m", img_size=32, patch_size=16).train(), nn.Linear(768, 1000)
    assert 80e6 < sum(parameter.numel() for parameter in model.parameters()) < 90e6
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-4)
    for _ in range(10):
        scores = head(model(images)[-1])
        if (scores.argmax(1) == labels).all():
            return
        optimizer.zero_grad()
        F.cross_entropy(scores, labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    pytest.fail(f"{(scores.argmax(1) == labels).sum()} of 64 labels after 10 steps")


def test_a_small_one_learns_64_random_labels_by_heart():
    torch.manual_seed(0)
    images, labels = torch.randn(64, 3, 16, 16), torch.randint(10, (64,))
    model, head = build(init_std=0.02).train(), nn.Linear(32, 10)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=4e-3)
    for _ in range(120):
        scores = head(model(images)[-1])
        if (scores.argmax(1) == labels).all():
            return
        optimizer.zero_grad()
        F.cross_entropy(scores, labels).backward()
        optimizer.step()
    pytest.fail(f"{(scores.argmax(1) == labels).sum()} of 64 labels after 120 steps")


def test_layer_wise_decay_gives_lower_layers_lower_rates():
    init_default_scope("mmpretrain")
    wrapper = build_optim_wrapper(
        MMPRETRAIN_MODELS.build(classifier(with_pos_embed=True)),
        dict(
            optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1),
            constructor="LearningRateDecayOptimWrapperConstructor",
            paramwise_cfg=dict(
                layer_decay_rate=0.5, flat_decay_mult=0.0, custom_keys={".pos_embed": dict(decay_mult=0.0)}
            ),
        ),
    )
    groups = {group["param_name"]: (group["lr"], group["weight_decay"]) for group in wrapper.optimizer.param_groups}
    # Depths of a model of 2 layers: 0 before them, 1, 2, and 3 behind them.
    assert groups["backbone.pos_embed"] == (1 / 8, 0.0)
    assert groups["backbone.patch_embed.projection.weight"] == (1 / 8, 0.1)
    assert groups["backbone.layers.0.mlp.up_proj.weight"] == (1 / 4, 0.1)
    assert groups["backbone.layers.1.input_layernorm.weight"] == (1 / 2, 0.0)
    assert groups["backbone.norm.weight"] == (1, 0.0) and groups["head.layers.head.weight"] == (1, 0.1)
