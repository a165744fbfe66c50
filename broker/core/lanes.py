"""The places in a kernel where executions run, and the queue before them.

The queue is the broker's. A lane (the main shell, or a subshell beside it) holds one request at a time, so the
kernel has nothing queued that its ``stop_on_error`` could abort (messaging spec, "Execute").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

MAIN = "main"
MAX_LANES = 64
"""So many run in one kernel at once, at most. Each lane is a thread there."""


class Lanes:
    """The lanes of one kernel, and the queue before them. Knows executions by id only."""

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._eager: dict[str, None] = {}
        self._lane: dict[str, str] = {}
        """The lane that each execution is in."""

    def enqueue(self, execution_id: str, *, eager: bool = False) -> None:
        """Put an execution last. ``eager``: it would not wait for those before it."""
        self._queue.append(execution_id)
        if eager:
            self._eager[execution_id] = None

    @property
    def queued(self) -> tuple[str, ...]:
        return tuple(self._queue)

    @property
    def head(self) -> str | None:
        return self._queue[0] if self._queue else None

    @property
    def first_eager(self) -> str | None:
        return next(iter(self._eager), None)

    @property
    def occupants(self) -> Iterator[str]:
        """What runs: in the main shell first, then in the order in which it began."""
        yield from (occupant for occupant, lane in self._lane.items() if lane == MAIN)
        yield from (occupant for occupant, lane in self._lane.items() if lane != MAIN)

    def free(self, *, concurrent: bool) -> str | None:
        """The lane that the next execution gets, None if all are taken. Unless ``concurrent``, there is but one."""
        names = (MAIN, *(f"lane-{number}" for number in range(1, MAX_LANES if concurrent else 1)))
        taken = set(self._lane.values())
        return next((name for name in names if name not in taken), None)

    def occupy(self, lane: str, execution_id: str, *, uninvited: bool = False) -> None:
        """Put an execution, queued or taken over, into a lane. One that came ``uninvited`` asks nobody for room."""
        assert uninvited or lane not in self._lane.values(), "a lane holds one request at a time"
        self._dequeue(execution_id)
        self._lane[execution_id] = lane

    def vacate(self, execution_id: str) -> None:
        """Free the lane that this execution has, or its place in the queue."""
        self._dequeue(execution_id)
        self._lane.pop(execution_id, None)

    def _dequeue(self, execution_id: str) -> None:
        self._eager.pop(execution_id, None)
        if execution_id in self._queue:
            self._queue.remove(execution_id)
