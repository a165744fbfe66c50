"""Places in the code at which a test may have the process killed, to prove that nothing is lost there.

``JUPYTER_BROKER_DIE_AT=committed:3`` kills it, by SIGKILL, when it reaches that step for the third time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "JUPYTER_BROKER_DIE_AT"
JOURNAL = ("appended", "begun", "inserted", "written", "committed", "told")
"""The steps of an append."""
RUNNER = ("handled", "acted", "answered")
"""The steps of a session's round."""
OUTBOX = ("read", "digested")
"""The steps of reading what a kernel says."""


def _at(wanted: str) -> Callable[[str], None]:
    name, _, count = wanted.partition(":")
    left = int(count or 1)

    def reached(step: str) -> None:
        nonlocal left
        if step == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


def _nowhere(step: str) -> None:
    pass


reached = _at(os.environ.pop(VARIABLE)) if VARIABLE in os.environ else _nowhere
"""Say that a step is reached. Does nothing, unless this process is to die there."""
