"""What a benchmark finds: ratios, their spread, and what they were made of."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec


class Goal(NamedTuple):
    """Where a figure should be."""

    sense: Literal["at most", "at least", "exactly"]
    value: float

    def met(self, figure: float) -> bool:
        match self.sense:
            case "at most":
                return figure <= self.value
            case "at least":
                return figure >= self.value
            case "exactly":
                return figure == self.value


class Figure(msgspec.Struct, kw_only=True):
    """One line of the table. ``p25`` and ``p75`` are of the ratios of single rounds, ``value`` is of the medians."""

    case: str
    what: str
    value: float
    p25: float | None = None
    p75: float | None = None
    n: int
    goal: Goal | None = None
    made_of: str
    """The two things that were divided, in their units."""

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.goal.met(self.value)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The 25th and the 75th percentile."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def ratio(
    case: str, what: str, over: Sequence[float], under: Sequence[float], unit: Unit, goal: Goal | None = None
) -> Figure:
    """Rounds of A and B, in pairs, as the ratio of their medians."""
    a, b = statistics.median(over), statistics.median(under)
    p25, p75 = quartiles([x / y for x, y in zip(over, under, strict=True)])
    made_of = f"{unit.say(a)} / {unit.say(b)}"
    return Figure(case=case, what=what, value=a / b, p25=p25, p75=p75, n=len(over), goal=goal, made_of=made_of)


def received(case: str, what: str, counts: Sequence[int], printed: int, goal: Goal | None = None) -> Figure:
    """Lines received per line printed: of the round that got the fewest."""
    shares = [count / printed for count in counts]
    p25, p75 = quartiles(shares)
    worst = min(shares) if max(shares) <= 1 else max(shares)
    made_of = f"{round(worst * printed):,} / {printed:,} lines"
    return Figure(case=case, what=what, value=worst, p25=p25, p75=p75, n=len(counts), goal=goal, made_of=made_of)


class Unit(NamedTuple):
    """How to write a quantity."""

    name: str
    factor: float = 1.0
    digits: int = 2

    def say(self, value: float) -> str:
        return f"{value * self.factor:,.{self.digits}f} {self.name}"


MS = Unit("ms", 1000)
LINES = Unit("lines/s", digits=0)
MIB = Unit("MiB", 1 / 2**20, 1)
KIB = Unit("KiB", 1 / 2**10, 0)
