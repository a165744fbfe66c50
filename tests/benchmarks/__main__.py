"""``python -m tests.benchmarks [CASE ...] [--quick] [--json FILE]``: measure, and print a table of ratios."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from . import fresh, memory, prints, round_trip, subscribers, tail
from .figures import Figure

CASES: dict[str, Callable[..., Coroutine[Any, Any, list[Figure]]]] = {
    "prints": prints.run,
    "round-trip": round_trip.run,
    "fresh": fresh.run,
    "subscribers": subscribers.run,
    "tail": tail.run,
    "memory": memory.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work, not how fast is it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    figures: list[Figure] = []
    for name in options.cases or CASES:
        with console.status(f"measuring: {name}"):
            found = asyncio.run(CASES[name](quick=options.quick))
        console.print(table(found))
        figures += found
    if options.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}
        figures_as_built = [{**msgspec.to_builtins(figure), "met": figure.met} for figure in figures]
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode({**machine, "figures": figures_as_built})))


def table(figures: list[Figure]) -> Table:
    found = Table(title=figures[0].case, title_justify="left", title_style="bold")
    found.add_column("ratio of")
    for heading in ("ratio", "p25 to p75", "n", "goal"):
        found.add_column(heading, justify="right")
    found.add_column("medians")
    for figure in figures:
        spread = "" if figure.p25 is None else f"{figure.p25:.3f} to {figure.p75:.3f}"
        colour = {None: "", True: "[green]", False: "[red]"}[figure.met]
        goal = f"{figure.goal.sense} {figure.goal.value:g}" if figure.goal else ""
        goal += ": missed" if figure.met is False else ""
        found.add_row(figure.what, f"{colour}{figure.value:.3f}", spread, str(figure.n), goal, figure.made_of)
    return found


if __name__ == "__main__":
    main()
