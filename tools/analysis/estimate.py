"""Size on paper: memory and time of training a model, by formula.

``estimate.py 300m --teacher 1b --batch 16 --devices 8`` prints the memory of a step, part by part, with and without
activation checkpointing, and the time of a training; ``--scaling`` prints the tables of docs/scaling.md, and with
``--docs docs`` puts them there; ``--check`` measures a tiny step on this CPU and prints how far off the formulas are.

Time is operations divided by what the devices do at the utilization that is given. Nothing here was measured on a GPU.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from delvm_mm.engine.flops import Arch, training_flops_per_token
from delvm_mm.models.backbones.llama import ARCHITECTURES
from documents import markdown_table, replace_block
from footprint import BYTES, Footprint, activation_bytes, num_parameters, training_footprint
from measure_step import check

SHAPES = ARCHITECTURES | {"7b": dict(embed_dims=4096, num_layers=32, num_heads=32)}
CONTEXT, CODES = 2048, 8192
TOKENIZER_PARAMETERS = 146_244_675  # of VQGAN(), the published shape
TOKENS_A_STEP, STEPS = 262_144, 40_000
GIB = 2**30
MEMORY_TO_USE = 0.9
ALL_LOGITS = sys.maxsize  # a chunk of the loss that takes everything
GRID = (("80m", None), ("80m", "1b"), ("300m", None), ("300m", "1b"), ("1b", None), ("7b", None))
DEVICES = (1, 8, 64, 512)
PUBLISHED = (
    ("1b", None, 16, 324),
    ("300m", None, 16, 126),
    ("300m", "1b", 16, 235),
    ("80m", None, 8, 65),
    ("80m", "1b", 8, 82),
)
"""Student, teacher, number of A100s and hours (Guo et al., ICML 2024)."""
A100_FLOPS = 312e12  # dense, bfloat16 or float16


class Sheet(NamedTuple):
    """A table."""

    title: str
    header: list[str]
    rows: list[list[str]]


class Machine(NamedTuple):
    """One device and its link: memory in GiB, operations and bytes a second."""

    memory_gib: float
    flops: float
    network: float

    def fits(self, footprint: Footprint) -> bool:
        """Whether a tenth of the memory stays free."""
        return footprint.total <= MEMORY_TO_USE * self.memory_gib * GIB


class Plan(NamedTuple):
    """How a step is laid out: strategy, checkpointing, sentences on a device at once, and how often."""

    strategy: str
    checkpointing: bool
    batch: int
    accumulation: int
    footprint: Footprint


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    machine = Machine(args.memory_gib, args.peak_tflops * 1e12 * args.utilization, args.network_gb * 1e9)
    if args.check:
        sheets = [checked()]
    elif args.scaling:
        sheets = [parts(), scaling(machine), published(args.utilization), *([checked()] if args.docs else [])]
        if args.docs:
            text = "\n\n".join(f"{sheet.title}:\n\n{markdown_table(sheet.header, sheet.rows)}" for sheet in sheets)
            replace_block(args.docs / "scaling.md", "estimate.py --scaling", text)
    elif args.arch:
        sheets = [one_model(args, machine)]
    else:
        sys.exit("error: name an architecture, or give --scaling or --check")
    console = Console(width=None if sys.stdout.isatty() else 150)
    for sheet in sheets:
        table = Table(*sheet.header, title=sheet.title)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch", nargs="?", type=shape, help=f"{', '.join(SHAPES)}, or a shape as JSON")
    parser.add_argument("--teacher", type=shape, help="likewise: reads the same batches")
    parser.add_argument("--batch", type=int, default=1, help="sentences on a device at once")
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens of a sentence")
    parser.add_argument("--codes", type=int, default=CODES, help="size of the codebook")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", choices=list(BYTES), default="bfloat16")
    parser.add_argument("--memory-gib", type=float, default=80, help="of a device (80)")
    parser.add_argument("--peak-tflops", type=float, default=312, help="of a device in that precision (312, an A100)")
    parser.add_argument("--utilization", type=float, default=0.4, help="reached share of the peak (0.4, an assumption)")
    parser.add_argument("--network-gb", type=float, default=25, help="GB/s that a device sends and receives (25)")
    parser.add_argument("--scaling", action="store_true", help="80M to 7B on 1 to 512 devices")
    parser.add_argument("--docs", type=Path, help="with --scaling: folder of scaling.md, which the tables are put into")
    parser.add_argument("--check", action="store_true", help="formulas against a tiny step on this CPU")
    return parser.parse_args(arguments)


def shape(text: str) -> Arch:
    """An architecture by its name or as JSON."""
    try:
        return SHAPES[text] if text in SHAPES else json.loads(text)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(SHAPES)} and no JSON such as "
            '\'{"embed_dims": 512, "num_layers": 12, "num_heads": 8}\''
        ) from None


def one_model(args: argparse.Namespace, machine: Machine) -> Sheet:
    """Memory of a step by parts, and time."""
    columns: dict[str, Footprint] = {}
    for strategy in ("ddp", "fsdp") if args.devices > 1 else ("ddp",):
        for checkpointing in (False, True):
            name = f"{strategy if args.devices > 1 else 'one device'}{', checkpointing' * checkpointing}"
            options = dict(
                precision=args.precision, teacher=args.teacher, strategy=strategy, num_devices=args.devices,
                tokenizer_parameters=TOKENIZER_PARAMETERS,
            )  # fmt: skip
            sizes = (args.arch, args.batch, args.context, args.codes)
            columns[name] = training_footprint(*sizes, checkpointing=checkpointing, **options)
            if not checkpointing:
                plain = training_footprint(*sizes, loss_chunk=ALL_LOGITS, **options)
                columns[f"{name}, all logits at once"] = plain
    rows = [[field, *(gib(getattr(column, field)) for column in columns.values())] for field in Footprint.names()]
    rows.append(["all", *(gib(column.total) for column in columns.values())])
    rows.append(["fits", *("yes" if machine.fits(column) else "no" for column in columns.values())])
    flops = training_flops_per_token(args.arch, args.context, args.codes, teacher=args.teacher)
    seconds = flops * args.batch * args.context / machine.flops
    title = (
        f"{num_parameters(args.arch, args.codes):,} parameters, {args.batch} x {args.context} tokens on each of "
        f"{args.devices} devices; memory in GiB; {flops / 1e9:.2f} GFLOP a token, {seconds:.3f} s a step, "
        f"{machine.flops / flops:,.0f} tokens/s a device"
    )
    return Sheet(title, ["", *columns], rows)


def parts() -> Sheet:
    """What memory is made of, at one sentence."""
    rows = []
    for name, arch in SHAPES.items():
        footprint = training_footprint(arch, 1, CONTEXT, CODES)
        kept = [activation_bytes(arch, 1, CONTEXT, checkpointing=checkpointing) for checkpointing in (False, True)]
        rows.append(
            [
                name,
                f"{num_parameters(arch, CODES):,}",
                gib(footprint.weights),
                gib(footprint.gradients),
                gib(footprint.optimizer),
                gib(footprint.cast_weights),
                *map(gib, kept),
                f"{training_flops_per_token(arch, CONTEXT, CODES) / 1e9:.2f}",
            ]
        )
    header = ["", "parameters", "weights", "gradients", "AdamW", "bfloat16 copies", "activations of a sentence"]
    title = f"Memory in GiB, and operations; sentences of {CONTEXT} tokens, bfloat16 autocast, {CODES} codes"
    return Sheet(title, [*header, "with checkpointing", "GFLOP a token"], rows)


def scaling(machine: Machine) -> Sheet:
    """Layout, memory and time of the published number of tokens, by model and number of devices."""
    rows = []
    for student, teacher in GRID:
        name = student + (f" + KD from {teacher}" if teacher else "")
        flops = training_flops_per_token(SHAPES[student], CONTEXT, CODES, teacher=teacher and SHAPES[teacher])
        for devices in DEVICES:
            plan = lay_out(SHAPES[student], teacher and SHAPES[teacher], devices, machine)
            if plan is None:
                rows.append([name, str(devices), "does not fit", *[""] * 6])
                continue
            sentences = plan.batch * plan.accumulation * devices
            hours, compute, network = time_of(student, plan, devices, flops, machine)
            rows.append(
                [
                    name,
                    str(devices),
                    plan.strategy * (devices > 1) + ", checkpointing" * plan.checkpointing or "-",
                    f"{plan.batch} x {plan.accumulation}",
                    gib(plan.footprint.total),
                    f"{sentences * CONTEXT:,}",
                    f"{compute:.2f}",
                    f"{network:.2f}",
                    f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}",
                ]
            )
    tokens = f"{TOKENS_A_STEP * STEPS / 1e9:.1f} G tokens"
    title = f"{tokens} on devices of {machine.memory_gib:.0f} GiB that do {machine.flops / 1e12:.0f} TFLOP/s"
    header = ["", "devices", "layout", "sentences x accumulation", "GiB a device", "tokens a step"]
    return Sheet(title, [*header, "computing, s a step", "network, s a step", "hours"], rows)


def lay_out(arch: Arch, teacher: Arch | None, devices: int, machine: Machine) -> Plan | None:
    """The first layout that fits, the cheapest first, for the published batch, or for a sentence on each device."""
    share = max(1, TOKENS_A_STEP // CONTEXT // devices)
    for strategy, checkpointing, batch in layouts(devices, share):
        footprint = training_footprint(
            arch, batch, CONTEXT, CODES, checkpointing=checkpointing, teacher=teacher, strategy=strategy,
            num_devices=devices, tokenizer_parameters=TOKENIZER_PARAMETERS,
        )  # fmt: skip
        if machine.fits(footprint):
            return Plan(strategy, checkpointing, batch, share // batch, footprint)
    return None


def layouts(devices: int, share: int) -> Iterator[tuple[str, bool, int]]:
    """Strategy, checkpointing, and sentences at once, halved down to one."""
    for strategy in ("ddp", "fsdp") if devices > 1 else ("ddp",):
        for checkpointing in (False, True):
            for halvings in range(share.bit_length()):
                yield strategy, checkpointing, share >> halvings


def time_of(student: str, plan: Plan, devices: int, flops: float, machine: Machine) -> tuple[float, float, float]:
    """Hours of all, and seconds of computing and of the network for a step.

    Rings send and receive: DDP the gradients twice, once a step; FSDP the weights in bfloat16 twice, and the gradients
    in float32, for each micro-batch. What takes longer counts, as if the other were hidden behind it.
    """
    parameters, others = num_parameters(SHAPES[student], CODES), (devices - 1) / devices
    sent = 8 * parameters if plan.strategy == "ddp" else (2 * 2 + 4) * parameters * plan.accumulation
    tokens = plan.batch * plan.accumulation * CONTEXT
    compute = tokens * (flops + recomputed(student, plan)) / machine.flops
    network = others * sent / machine.network
    steps = TOKENS_A_STEP * STEPS / (tokens * devices)
    return steps * max(compute, network) / 3600, compute, network


def recomputed(student: str, plan: Plan) -> float:
    """Operations a token that checkpointing adds."""
    plain, whole = (training_flops_per_token(SHAPES[student], CONTEXT, CODES, recompute=r) for r in (False, True))
    return whole - plain if plan.checkpointing else 0.0


def published(utilization: float) -> Sheet:
    """What utilization the published hours mean, if they were spent on the released number of steps."""
    rows = []
    for student, teacher, devices, hours in PUBLISHED:
        flops = training_flops_per_token(SHAPES[student], CONTEXT, CODES, teacher=teacher and SHAPES[teacher])
        available = devices * hours * 3600 * A100_FLOPS
        needed = TOKENS_A_STEP * STEPS * flops
        held = available * utilization / (TOKENS_A_STEP * flops)
        rows.append(
            [
                student + (f" + KD from {teacher}" if teacher else ""),
                f"{devices} x {hours} h",
                f"{devices * hours:,}",
                f"{flops / 1e9:.2f}",
                f"{100 * needed / available:.1f} %",
                f"{held:,.0f}",
                f"{TOKENS_A_STEP * STEPS / (devices * hours * 3600):,.0f}",
            ]
        )
    header = ["", "published", "A100 hours", "GFLOP a token", "utilization", f"steps at {100 * utilization:.0f} %"]
    title = f"Published hours of training, if {STEPS:,} steps of {TOKENS_A_STEP:,} tokens were done in them"
    return Sheet(title, [*header, "tokens/s an A100"], rows)


def checked() -> Sheet:
    """Formulas and measurements."""
    rows = [[row.name, f"{row.predicted:,.0f}", f"{row.measured:,.0f}", f"{row.ratio:.3f}"] for row in check()]
    return Sheet("Formulas against a step of a tiny model on a CPU", ["", "formula", "measured", "ratio"], rows)


def gib(size: float) -> str:
    """Bytes in GiB."""
    return f"{size / GIB:.2f}"


if __name__ == "__main__":
    main()
