"""`bench/run NAME [--json FILE] [--quick]`: run one benchmark, print its table, write its JSON."""

import argparse
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench.ledger import busy
from bench.measures import Report, show
from bench.outcome import Benchmark, Terms, WrongShape
from bench.probe import NoReply
from bench.versions import versions
from devstack.labs.process import LabError

NAMES = ("wire", "bulk", "restart", "codec", "fanout", "security", "members", "policy-traffic", "recovery", "chaos")


def stop(number: int, frame: FrameType | None) -> None:
    """A signal ends the benchmark as an error does: what it started is taken down."""
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure Selvedge on a lab of this machine.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="a smoke run of under a minute: small sizes, few samples")
    chaos = parser.add_argument_group("chaos")
    chaos.add_argument("--minutes", type=float, help="how long things break (default 5; --quick: half of one)")
    chaos.add_argument("--seed", type=int, default=int(time.time()) // 86_400, help="of the dice (default: the day)")
    chaos.add_argument("--hypervisors", type=int, default=4)
    chaos.add_argument("--keep", type=Path, metavar="DIR", help="where the timeline goes, and logs if it fails")
    words = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    began = time.monotonic()
    aside = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        aside.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim] {text}")

    others = busy(0.5)
    if others > 0.1:
        say(f"[yellow]this machine is {others:.0%} busy with other things, and the numbers suffer[/yellow]")
    benchmark: Benchmark = importlib.import_module(f"bench.{words.name.replace('-', '_')}").run
    try:
        outcome = benchmark(
            Terms(words.quick, say, words.minutes, words.seed, words.hypervisors, words.keep),
        )
    except (LabError, NoReply, WrongShape) as error:
        print(f"bench/run: {words.name}: {error}", file=sys.stderr)
        return 1
    report = Report(words.name, versions(), outcome.results, outcome.daemons)
    if words.json:
        words.json.write_text(json.dumps(report.document(), indent=1) + "\n")
    show(report, Console(width=None if sys.stdout.isatty() else 150), budgets=not words.quick)
    for finding in outcome.findings:
        print(f"bench/run: {words.name}: {finding}", file=sys.stderr)
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
