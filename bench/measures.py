"""Samples, their percentiles, the report of a benchmark as JSON and as a table.

A percentile is the nearest-rank one (the smallest value that at least p % of the samples do not exceed): always a value
that was measured, so that the p99 of thirty samples is their largest. Everything here is a value; printing is the last
function.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.budgets import verdict

Parameter = str | int


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of `values` (any order, at least one), `percent` in (0, 100]."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(frozen=True)
class Result:
    """One measured thing under one set of parameters; `values` are the samples in `unit`, in the order taken."""

    name: str
    unit: str
    values: tuple[float, ...]
    params: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"{self.name} {dict(self.params)}: nothing was measured")

    def numbers(self) -> dict[str, float]:
        """median, p95, p99, max."""
        return {
            "median": round(median(self.values), 4),
            "p95": round(percentile(self.values, 95), 4),
            "p99": round(percentile(self.values, 99), 4),
            "max": round(max(self.values), 4),
        }


@dataclass(frozen=True)
class Cost:
    """What a daemon took: CPU seconds (user and system) of the benchmark, peak resident memory in MB (10^6 bytes)."""

    name: str
    cpu_s: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Report:
    benchmark: str
    versions: Mapping[str, str]
    results: tuple[Result, ...]
    daemons: tuple[Cost, ...]

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "benchmark": self.benchmark,
            "versions": dict(self.versions),
            "results": [
                {
                    "name": result.name,
                    "params": dict(result.params),
                    "unit": result.unit,
                    "n": len(result.values),
                    **result.numbers(),
                }
                for result in self.results
            ],
            "daemons": [
                {"name": cost.name, "cpu_s": round(cost.cpu_s, 3), "peak_rss_mb": round(cost.peak_rss_mb, 1)}
                for cost in self.daemons
            ],
        }


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def show(report: Report, console: Console, budgets: bool) -> None:
    """Print the report; with `budgets`, each number that has one is held against it."""
    table = Table(title=f"{report.benchmark}: {', '.join(f'{k} {v}' for k, v in report.versions.items())}")
    for column in ("result", "parameters", "unit"):
        table.add_column(column)
    for column in ("n", "median", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    if budgets:
        table.add_column("budget")
    for result in report.results:
        numbers = result.numbers()
        parameters = " ".join(f"{key}={value}" for key, value in result.params.items())
        row = [result.name, parameters, result.unit, str(len(result.values)), *map(_number, numbers.values())]
        if budgets:
            row.append(verdict(report.benchmark, result.name, result.params, numbers))
        table.add_row(*row)
    console.print(table)
    if report.daemons:
        costs = Table(title="daemons")
        costs.add_column("name")
        costs.add_column("CPU s", justify="right")
        costs.add_column("peak RSS MB", justify="right")
        for cost in report.daemons:
            costs.add_row(cost.name, f"{cost.cpu_s:.2f}", f"{cost.peak_rss_mb:.0f}")
        console.print(costs)
