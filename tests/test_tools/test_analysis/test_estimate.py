"""``tools/analysis/estimate.py``: formulas against a measured step, layouts, and what published hours mean."""

import re

import pytest

from delvm_mm.engine.flops import training_flops_per_token
from tools.analysis import estimate


def test_formulas_agree_with_a_measured_step():
    ratios = {row.name: row.ratio for row in estimate.check()}
    exact = [name for name in ratios if "peak" not in name and "operations" not in name]
    assert len(exact) == 5 and all(ratios[name] == pytest.approx(1, abs=1e-3) for name in exact), ratios
    # The projection of the codebook's few channels is left out of the formula of operations.
    operations = [ratio for name, ratio in ratios.items() if "operations" in name]
    assert operations and all(0.99 < ratio <= 1 for ratio in operations), ratios
    # A peak is bounded from above: its parts do not all live at the same moment.
    peaks = [ratio for name, ratio in ratios.items() if "peak" in name]
    assert len(peaks) >= 4 and all(1 <= ratio < 1.25 for ratio in peaks), ratios


def test_layouts_fit_and_do_the_published_batch():
    machine = estimate.Machine(memory_gib=80, flops=1e14, network=25e9)
    assert estimate.lay_out(estimate.SHAPES["7b"], None, 1, machine) is None, "16 bytes of 6.5 G parameters are 97 GiB"
    for arch, devices in (("80m", 1), ("300m", 8), ("1b", 64), ("7b", 8)):
        plan = estimate.lay_out(estimate.SHAPES[arch], None, devices, machine)
        assert plan.batch * plan.accumulation * devices * 2048 == 262_144
        assert plan.footprint.total <= 0.9 * 80 * 2**30
        assert plan.strategy == ("fsdp" if arch == "7b" else "ddp")
    small = estimate.Machine(memory_gib=16, flops=1e14, network=25e9)
    assert estimate.lay_out(estimate.SHAPES["300m"], None, 1, small).accumulation > 1
    assert estimate.lay_out(estimate.SHAPES["1b"], None, 1, small) is None


def test_published_hours_by_hand():
    sheet = estimate.published(0.4)
    row = next(row for row in sheet.rows if row[0] == "300m")
    # 40 000 steps of 262 144 tokens in 16 x 126 hours of 312 TFLOP/s.
    share = 40_000 * 262_144 * training_flops_per_token("300m", 2048, 8192) / (16 * 126 * 3600 * 312e12)
    assert row[sheet.header.index("utilization")] == f"{100 * share:.1f} %"
    assert row[-1] == f"{40_000 * 262_144 / (16 * 126 * 3600):,.0f}"


def test_the_tables_go_into_the_marked_block_of_the_page(tmp_path, capsys):
    page = tmp_path / "scaling.md"
    page.write_text("before\n<!-- begin: estimate.py --scaling -->\nold\n<!-- end: estimate.py --scaling -->\nafter\n")
    estimate.main(["--scaling", "--docs", str(tmp_path)])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert all(
        f"\n| {name} | {devices} | " in text for name in ("80m", "300m + KD from 1b", "7b") for devices in (8, 512)
    )
    assert re.search(r"\| 7b \| 1 \| does not fit", text)
    page.write_text("no block")
    with pytest.raises(ValueError, match="needs the lines"):
        estimate.main(["--scaling", "--docs", str(tmp_path)])


def test_a_shape_of_ones_own_is_estimated_and_nonsense_refused(capsys):
    estimate.main(['{"embed_dims": 512, "num_layers": 12, "num_heads": 8}', "--batch", "4", "--devices", "2"])
    out = capsys.readouterr().out
    assert "fsdp" in out and "activations" in out and "tokens/s a device" in out
    with pytest.raises(SystemExit):
        estimate.main(["4b"])
    assert "'4b' is none of 80m, 300m, 1b, 7b" in capsys.readouterr().err
