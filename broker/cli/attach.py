"""``jupyter broker attach``: come back to an execution."""

from __future__ import annotations

from inspect import cleandoc

from .answers import Answers
from .command import Command
from .ids import resolve_execution
from .watch import Watch


class AttachApp(Command):
    """See all of an execution, from its start, and stay with it."""

    name = "jupyter-broker-attach"
    arguments = "ID"
    description = """Show what an execution has printed, from its start, and stay until it ends, as `run` does.

    What it asks for is asked here. Ctrl-C leaves it running; pressed twice, it interrupts the code. The exit status
    is that of `run`.
    """
    examples = cleandoc("""
    jupyter broker attach 06f3k2      a unique beginning of an id is enough; `ps` shows ids
    """)

    async def run(self) -> int:
        """Attach."""
        (beginning,) = self.arguments_given(1, 1)
        async with self.connect() as client:
            execution_id = await resolve_execution(client, beginning)
            return await Watch(client, execution_id, Answers.from_stdin()).follow()
