"""Lines for one execution's prompts: given in order, one a prompt, and never to another execution."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

EOF = None
"""What a prompt is answered with at the end of input."""


class Stdin:
    """The lines that came before they were asked for.

    They are in memory only: whether one of them is a password is known when its prompt opens, and a password must
    never be stored.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self.closed = False

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, lines: Iterable[str], *, eof: bool) -> None:
        self._lines.extend(lines)
        self.closed = self.closed or eof

    @property
    def has_answer(self) -> bool:
        """Whether a prompt would be answered at once."""
        return self.closed or bool(self._lines)

    def take(self) -> str | None:
        """The next line, or :data:`EOF` when there is no more and never will be."""
        return self._lines.popleft() if self._lines else EOF


def split_lines(data: str) -> tuple[str, ...]:
    """Cut ``data`` into the lines that as many prompts get. An empty string is one empty line: the Enter key."""
    return tuple(data.removesuffix("\n").split("\n"))
