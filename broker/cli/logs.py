"""``jupyter broker logs``: what an execution has printed."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from inspect import cleandoc
from typing import Any

import msgspec
from traitlets import Bool, Int

from ..client import Client, Event
from .command import DONE, Command
from .ids import resolve_execution
from .rendering import Renderer


class LogsApp(Command):
    """Read, and touch nothing."""

    name = "jupyter-broker-logs"
    arguments = "ID"
    description = """Print what an execution has printed, from the journal: all of it, however long ago.

    Its stdout goes to stdout, its stderr and tracebacks to stderr. Its prompts are shown and not answered.
    """
    examples = cleandoc("""
    jupyter broker logs 06f3k2                a unique beginning of an id is enough; `ps` shows ids
    jupyter broker logs -f 06f3k2             go on with what comes, until it ends
    jupyter broker logs 06f3k2 --json         the events themselves, one a line
    jupyter broker logs 06f3k2 --after=1234   only what follows the event with that seq
    """)

    after = Int(0, min=0, help="Print only what follows the event with this seq.").tag(config=True)
    follow = Bool(False, help="Go on with what comes, until the execution ends.").tag(config=True)
    json = Bool(False, help="Print the events, one a line, as JSON.").tag(config=True)

    aliases: dict[Any, Any] = {"after": "LogsApp.after"} | Command.aliases
    flags: dict[Any, Any] = {
        ("f", "follow"): ({"LogsApp": {"follow": True}}, "Go on with what comes, until the execution ends."),
        "json": ({"LogsApp": {"json": True}}, "Print the events, one a line, as JSON."),
    } | Command.flags

    async def run(self) -> int:
        """Print."""
        (beginning,) = self.arguments_given(1, 1)
        renderer = Renderer(sys.stdout, sys.stderr)
        async with self.connect() as client:
            execution_id = await resolve_execution(client, beginning)
            events = client.stream(execution_id, after=self.after) if self.follow else self._past(client, execution_id)
            async with aclosing(events):
                async for event in events:
                    if self.json:
                        sys.stdout.write(msgspec.json.encode(event.to_wire()).decode() + "\n")
                    else:
                        renderer.show(event)
                    if self.follow:
                        sys.stdout.flush()
        return DONE

    async def _past(self, client: Client, execution_id: str) -> AsyncGenerator[Event, None]:
        after: int | None = self.after
        while after is not None:
            page = await client.get_async_log(execution_id, after=after)
            for event in page.events:
                yield event
            after = None if page.eof else page.seq
