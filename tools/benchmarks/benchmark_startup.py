"""What commands cost before they do anything: imports and --help, beside an import of torch and MMEngine.

    python tools/benchmarks/benchmark_startup.py

Every round starts each of them once, in turn, in a process of its own. What counts is the time of the processor, user
and system, that the process took, not the time of the clock: it is much the same on a machine that is busy with other
work. A ratio is of two processes of one round, so that a slow moment of the machine hits both. Files are in the page
cache after a round that is not counted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from delvm.cli import COMMANDS
from machine import machine

ROOT = Path(__file__).resolve().parents[2]
PEER = "import torch, mmengine"
LIMIT = 1.2
"""What an import of the package and --help may take at most, of the peer's time."""
IMPORTS = ("import delvm_mm",)
LATER = ("import mmengine.runner", "import delvm_mm.engine.launch", "import delvm_mm.models", "import delvm_mm.apis")
"""What is imported once there is work to do, and what MMEngine's own runner takes of it."""
TOOLS = ("tools/test.py", "tools/quickstart.py")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which each is started once (5 by default)")
    parser.add_argument(
        "--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="of delvm; all of them by default"
    )
    parser.add_argument("--later", action="store_true", help="also what is imported once there is work to do")
    parser.add_argument("--out", help="write the figures into this JSON file")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    results = {"machine": machine(), "rounds": args.rounds} | benchmark(starts(args.commands, args.later), args.rounds)
    print_results(results)
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1) + "\n")


def starts(commands: list[str], later: bool) -> dict[str, list[str]]:
    """Name -> arguments of Python; the peer is the first."""
    return {
        **{code: ["-c", code] for code in (PEER, *IMPORTS)},
        **{f"delvm {command} --help": ["-m", "delvm", command, "--help"] for command in commands},
        **{f"{tool} --help": [tool, "--help"] for tool in TOOLS},
        **{code: ["-c", code] for code in LATER if later},
    }


def benchmark(processes: dict[str, list[str]], rounds: int) -> dict:
    """Start each in turn; seconds of the processor and ratios to the peer, by name."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for number in range(rounds + 1):
        for name, arguments in processes.items():
            taken = cpu_seconds(arguments)
            if number:
                seconds[name].append(taken)
    peer = seconds[PEER]
    return {
        "seconds": {name: dict(best=min(times), median=median(times)) for name, times in seconds.items()},
        "ratio": {
            name: dict(
                best=min(times) / min(peer),
                median=median(ours / theirs for ours, theirs in zip(times, peer, strict=True)),
            )
            for name, times in seconds.items()
        },
    }


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a Python process, with this checkout's package.

    Raises:
        SystemExit: It failed.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | dict(PYTHONPATH=path), capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"python {' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def print_results(results: dict) -> None:
    print(f"{results['machine']}; {results['rounds']} rounds")
    table = Table("process", "CPU s, best", "median", f"times '{PEER}', best", "median")
    for name, ratio in results["ratio"].items():
        seconds = results["seconds"][name]
        table.add_row(
            name, f"{seconds['best']:.2f}", f"{seconds['median']:.2f}", f"{ratio['best']:.2f}", f"{ratio['median']:.2f}"
        )
    Console(width=max(100, Console().width)).print(table)
    over = [name for name, ratio in results["ratio"].items() if name not in LATER and ratio["best"] > LIMIT]
    print(f"over {LIMIT}: {', '.join(over)}" if over else f"imports of the package and --help are all within {LIMIT}")


if __name__ == "__main__":
    main()
