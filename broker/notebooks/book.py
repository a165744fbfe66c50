"""What is remembered of one session's notebook between two writings."""

from __future__ import annotations

from pathlib import Path

from ..core.records import SessionRecord
from .files import Signature

GROWING = 0.5
"""Seconds between two writings of a notebook for the sake of more output alone."""
SHARE = 10
"""A notebook that takes long to write is written less often: of so much time, one part is spent on it."""


class Book:
    """Times are on the loop's clock, in seconds."""

    def __init__(self, session: SessionRecord) -> None:
        self.session = session
        self.path: Path | None = None
        self.signature: Signature | None = None
        """Of the file as it was last looked at."""
        self.dirty: set[str] = set()
        """Executions that something has happened to."""
        self.is_complete = True
        """False if all the session's executions must be looked at, not only those."""
        self.held: set[str] = set()
        """Other clients' executions that the notebook may yet turn out to have."""
        self.passed_over: set[str] = set()
        """Other clients' executions that the notebook turned out to have, until it says so itself."""
        self.running: set[str] = set()
        """Executions that were written as running."""
        self.urgent = False
        """Whether there is more than output that grows."""
        self.written_at = 0.0
        self.took = 0.0
        self.not_before = 0.0
        self.failures = 0

    @property
    def is_pending(self) -> bool:
        """Whether it may have to be written."""
        return bool(self.dirty or self.urgent or not self.is_complete)

    @property
    def due(self) -> float:
        """When it may be written again."""
        rest = self.took * SHARE
        return max(self.not_before, self.written_at + (rest if self.urgent else max(rest, GROWING)))
