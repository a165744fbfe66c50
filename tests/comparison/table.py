"""The cells as tables in Markdown: a compact one for the README, and the whole."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import msgspec

from .cases import CASES
from .looking import Cell
from .peers import PEERS

MARKS = {"yes": "✓", "partly": "◐", "no": "✗", "not run": "?"}
LEGEND = "✓ as it should be, ◐ in part, ✗ not so, ? not run."
ASKED = {
    "call": "code, awaited",
    "begin": "code that is to run on",
    "read": "its output",
    "input": "a line of input",
    "interrupt": "an interrupt",
    "client": "the client gone and back",
    "killed": "the broker killed",
}


class Seen(msgspec.Struct):
    """All that was seen: kept as JSON, so that single cells can be run again."""

    versions: dict[str, str] = {}
    cells: dict[str, dict[str, Cell]] = {}
    """By case, then by peer."""


OBTAINED = """\
What was seen when the same cases ran on each of these, on one machine with two processors and Python 3.11:
{versions}.
`python -m tests.comparison` installs the peers, each in an environment of its own with its defaults, runs each case on
a freshly started one, and writes this page. No cell was filled in by hand."""
NOTES = """\
`codemode-agent` runs JavaScript, the others Python; the programs are the same. The handover time is 3 s where it can be
set, and 30 s for `codemode-agent`, where it cannot; the busy loop lasts 5 or 6 s longer. What ran, and how often, is
known from files that the programs write. A call that gets no answer is given up after the seconds that its cell names.
How much is lost where something is lost, and seconds, are of one run of that cell; another one has other numbers. Not
all of these were made for this: nbclient runs notebooks from end to end, Jupyter Server serves people who watch."""


def compact(seen: Seen) -> str:
    """A table with a few words a cell."""
    peers = [peer for peer in PEERS if peer in seen.versions]
    rows = [[CASES[case].title, *(_brief(cells.get(peer)) for peer in peers)] for case, cells in _cases(seen)]
    return _table(["", *peers], rows)


def document(seen: Seen) -> str:
    """The whole page: the compact table, what was seen case by case, and how each peer was driven."""
    peers = [peer for peer in PEERS if peer in seen.versions]
    versions = ", ".join(f"{peer} {seen.versions[peer]}" for peer in peers)
    parts = [
        "# Side by side",
        OBTAINED.format(versions=textwrap.fill(versions, 118)),
        LEGEND,
        compact(seen),
        NOTES,
        "## Case by case",
    ]
    for case, cells in _cases(seen):
        parts.append(f"### {CASES[case].title}")
        parts.append(f"Wanted: {CASES[case].question}.")
        rows = [[f"{MARKS[cells[peer].verdict]} {peer}", cells[peer].words] for peer in peers if peer in cells]
        parts.append(_table(["", "what was seen"], rows))
    parts.append("## How each was driven")
    parts.append("With what its documentation offers, or what comes nearest to it.")
    for peer in peers:
        parts.append(f"### {peer}")
        parts.append(_table(["what for", "how"], [[ASKED[what], how] for what, how in PEERS[peer].driven.items()]))
    return "\n\n".join(parts) + "\n"


def _cases(seen: Seen) -> Sequence[tuple[str, Mapping[str, Cell]]]:
    return [(case, seen.cells[case]) for case in CASES if case in seen.cells]


def _brief(cell: Cell | None) -> str:
    return "" if cell is None else f"{MARKS[cell.verdict]} {cell.brief}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
