"""Proof on a GPU, in one command: tests, benchmarks, a short training, and one report of all of it.

Needs torch, the OpenMMLab wheels and this package, and no network. What else is there is used: pytest for the tests,
transformers and diffusers to compare with. Parts run one after another in a process of their own; one that fails, hangs
or dies is reported with its traceback, and the next begins in a fresh process.

    python tools/benchmarks/gpu_acceptance.py --out work_dirs/gpu                 # about 8 minutes
    python tools/benchmarks/gpu_acceptance.py --out work_dirs/gpu --parts generation training
    python tools/benchmarks/gpu_acceptance.py --out /tmp/toy --cpu --minutes 1    # the same script at toy size
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Shares of the time, in the order in which parts run; the training has what is left.
SHARES = dict(
    machine=0.02, speed=0.03, tests=0.3, generation=0.15, steps=0.15, vqgan=0.08, tokenizing=0.07, training=0.2
)
# A part is stopped after so many times its share, and on a CPU never before ten minutes.
PATIENCE = 2.0
LEAST_SECONDS, LEAST_SECONDS_ON_CPU = 60, 600


MINI_TOKENIZER = "delvm_mm://mini_tokenizer"  # 4 x 4 pixels a token


@dataclass
class Settings:
    """What all parts are told."""

    out: str
    minutes: float
    cpu: bool
    fail: tuple[str, ...] = ()
    tokenizer: str = MINI_TOKENIZER

    @property
    def device(self) -> str:
        """The device to run on."""
        return "cpu" if self.cpu else "cuda"

    def seconds_of(self, name: str) -> float:
        """After how long a part is stopped."""
        least = LEAST_SECONDS_ON_CPU if self.cpu else LEAST_SECONDS
        return max(least, PATIENCE * SHARES[name] * self.minutes * 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of report.md and report.json")
    parser.add_argument("--minutes", type=float, default=8, help="for all of it; the training has what is left")
    parser.add_argument("--cpu", action="store_true", help="everything at toy size on the CPU, to try the script")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument(
        "--tokenizer",
        default=MINI_TOKENIZER,
        help="of the training: its images are 16 x 16 tokens, 64 px with the default",
    )
    parser.add_argument("--fail", nargs="+", choices=SHARES, default=[], help="let parts fail, to try the report")
    args = parser.parse_args()
    settings = Settings(args.out, args.minutes, args.cpu, tuple(args.fail), args.tokenizer)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    results = run(settings, [name for name in SHARES if name in args.parts])
    failed = [result["part"] for result in results if result["state"] == "failed"]
    print(f"{Path(args.out) / 'report.md'}: {len(results) - len(failed)} of {len(results)} parts without a failure")
    sys.exit(1 if failed else 0)


def run(settings: Settings, names: Sequence[str]) -> list[dict[str, Any]]:
    """Run parts and write the report after each."""
    started, results, waiting = time.monotonic(), [], list(names)
    while waiting:
        for result in run_in_a_process(settings, list(waiting), started):
            waiting.remove(result["part"])
            results.append(result)
            write_report(settings, results, time.monotonic() - started)
            print(f"{result['part']}: {result['state']}, {result['seconds']:.0f} s", flush=True)
    return results


def run_in_a_process(settings: Settings, names: list[str], started: float):
    """Results of parts, until one fails: what it did to the device, the next need not bear."""
    context = multiprocessing.get_context("spawn")
    connection, other = context.Pipe()
    process = context.Process(target=work, args=(other, settings, names, time.time() - (time.monotonic() - started)))
    process.start()
    end_here(other)
    try:
        for name in names:
            begun = time.monotonic()
            limit = settings.seconds_of(name)
            try:
                if not connection.poll(limit):
                    raise TimeoutError(f"stopped after {limit:.0f} s")
                result = connection.recv()
            except (EOFError, TimeoutError, ConnectionError) as error:
                if isinstance(error, EOFError | ConnectionError):
                    process.join(10)
                    error = RuntimeError(f"the process of this part ended with exit code {process.exitcode}")
                result = dict(part=name, state="failed", figures=[], error=f"{type(error).__name__}: {error}")
            yield result | dict(seconds=round(time.monotonic() - begun, 1))
            if result["state"] == "failed":
                return
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def end_here(other: Connection) -> None:
    """Close the process's end of the pipe on this side, so that its death is seen."""
    other.close()


def work(connection: Connection, settings: Settings, names: list[str], started: float) -> None:
    """Be the process that runs parts."""
    import acceptance_parts

    for name in names:
        left = settings.minutes * 60 - (time.time() - started)
        result = dict(part=name, state="passed", figures=[], error="")
        figures = acceptance_parts.Figures()
        try:
            if name in settings.fail:
                raise RuntimeError("this part was told to fail")
            acceptance_parts.PARTS[name](settings, figures, left)
        except acceptance_parts.LeftOutError as reason:
            result.update(state="left out", error=str(reason))
        except BaseException:
            result.update(state="failed", error=traceback.format_exc())
        if figures.errors and result["state"] == "passed":
            result.update(state="failed", error="\n".join(figures.errors))
        connection.send(result | dict(figures=figures.rows))
        if result["state"] == "failed":
            break
    connection.close()


def write_report(settings: Settings, results: list[dict[str, Any]], seconds: float) -> None:
    """``report.json``, and the same to read as ``report.md``."""
    report = dict(
        arguments=asdict(settings),
        host=f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores",
        seconds=round(seconds, 1),
        parts=results,
    )
    out = Path(settings.out)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = [
        "# Report of gpu_acceptance.py",
        "",
        f"{report['host']}; {report['seconds']:.0f} s of {settings.minutes:g} minutes."
        + (" **Toy sizes on a CPU: no figure says anything about a GPU.**" if settings.cpu else ""),
        "",
        "| part | state | s |",
        "| --- | --- | ---: |",
        *(f"| {result['part']} | {result['state']} | {result['seconds']:.0f} |" for result in results),
    ]
    for result in results:
        lines += ["", f"## {result['part']}: {result['state']}", ""]
        if result["figures"]:
            lines += ["| | | goal | met |", "| --- | ---: | ---: | --- |"]
            lines += [
                f"| {row['name']} | {row['value']} {row['unit']} | {row['goal']} | {row['met']} |"
                for row in result["figures"]
            ]
        if result["error"]:
            lines += ["", "```", result["error"].strip(), "```"]
    (out / "report.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
