"""Visitors: executions that another client of the kernel has asked for, such as a person in JupyterLab.

They are part of the session's history like all others, and begin it with their ``execute_input``, the first that is
heard of them. They are nobody's to await, so they are detached; what they ask is for their own client to answer; and
their ``execute_reply`` goes to that client, so ``status: idle`` alone says that they are over.
"""

from __future__ import annotations

from . import messages as m
from .acting import Acting
from .events import EventType
from .execution import Execution
from .lanes import MAIN
from .promises import NOTHING_LOST
from .records import ExecutionRecord, title_of
from .state import Attachment, Origin


class Visitors(Acting):
    """Takes down what others run."""

    def _visit(self, execution_id: str, code: str) -> Execution:
        """One has begun, somewhere in the kernel: most likely in the main shell."""
        record = ExecutionRecord(
            execution_id=execution_id,
            session_id=self.record.session_id,
            owner=self.record.owner,
            origin=Origin.JUPYTER,
            title=title_of(code),
            attachment=Attachment.DETACHED,
            created_at=self._now.wall,
        )
        execution = self._live[execution_id] = Execution(record, code)
        self._lanes.occupy(MAIN, execution_id, uninvited=True)
        self._tell(EventType.EXECUTION_QUEUED, record, code=code, origin=record.origin)
        self._tell(EventType.EXECUTION_STARTED, record, lane=MAIN)
        if not self._promised(NOTHING_LOST):
            # Should its idle be lost, this is answered all the same, and after it.
            self._do(m.Probe(execution_id, MAIN))
        return execution
