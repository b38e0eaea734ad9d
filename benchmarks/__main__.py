"""``python -m benchmarks``: measure minigrad beside its peers, print the tables, and write RESULTS.md.

A full run checks and times everything and writes the page; a part of it (``--only``, ``--quick``) is printed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import cases, measure, report

HERE = Path(__file__).parent


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--peers", default="torch", help=f"beside minigrad, of {','.join(measure.PEERS)}, or all (default: torch)"
    )
    parser.add_argument("--threads", default="1,2", help="how many, one or several numbers (default: 1,2)")
    parser.add_argument("--only", metavar="PATTERN", help="cases whose names hold this; * and ? are wildcards")
    parser.add_argument("--quick", action="store_true", help="little time for each line: to see that it works")
    parser.add_argument("--seconds", type=float, default=0.25, help="for each line and peer (default: 0.25)")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--growth", action="store_true", help="instead, draw how the cost grows with the sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--list", action="store_true", help="the names of the cases, and no more")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 if the numbers of some peer were wrong."""
    asked = parser().parse_args(arguments)
    chosen = cases.selected(asked.only)
    if asked.list:
        print(*(case.name for case in chosen), sep="\n")
        return 0
    if not chosen:
        parser().error(f"--only {asked.only}: no case has such a name; --list shows them")
    try:
        names = measure.PEERS if asked.peers == "all" else [*asked.peers.split(","), "minigrad"]
        peers, missing = measure.installed(names)
        threads = [int(n) for n in asked.threads.split(",")]
        if min(threads) < 1:
            raise ValueError(f"--threads {asked.threads}: numbers from 1")
    except ValueError as error:
        parser().error(str(error))
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}", file=sys.stderr)
    seconds, rounds = (0.02, 2) if asked.quick else (asked.seconds, 5)
    with measure.Measurement(peers, threads, seconds, rounds) as measurement:
        if asked.growth:
            for sweep in cases.sweeps():
                report.plot(sweep, measurement.sweep(sweep), peers, HERE / f"growth_{sweep.name}.png")
            return 0
        results = measurement.results(chosen)
    steps = [case for case in chosen if isinstance(case, cases.Step)]
    if steps and results["complete"] and not (asked.no_memory or asked.quick):
        results["memory"] = measure.memory(
            [peer for peer in peers if peer in ("torch", "minigrad")], threads[-1], steps
        )
    print(report.tables(results))
    if asked.json:
        part = asked.json.with_name(f".{asked.json.name}.{os.getpid()}.part")
        part.write_text(json.dumps(results, indent=1))
        part.replace(asked.json)
    if results["complete"] and not (asked.only or asked.quick):
        report.write(results, HERE / "RESULTS.md", sorted(HERE.glob("growth_*.png")))
    return int(any(line["wrong"] for line in results["lines"]))


if __name__ == "__main__":
    raise SystemExit(main())
