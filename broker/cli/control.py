"""``jupyter broker stdin``, ``interrupt`` and ``kill``: one request about one execution each."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from msgspec import UNSET
from traitlets import Bool

from ..client import Execution
from .command import DONE, FAILED, Command, UsageError
from .ids import resolve_execution


class StdinApp(Command):
    """Answer a prompt."""

    name = "jupyter-broker-stdin"
    arguments = "ID [TEXT]"
    description = """Answer an execution that asks for input.

    A line that it has not asked for yet waits for its next prompt. Several lines answer as many prompts.
    """
    examples = cleandoc("""
    jupyter broker stdin 06f3k2 yes
    jupyter broker stdin 06f3k2 ""         an empty line: the Enter key
    jupyter broker stdin 06f3k2 --eof      the end of input: input() raises EOFError
    """)

    eof = Bool(False, help="End the input, after TEXT if there is one.").tag(config=True)
    flags: dict[Any, Any] = {
        "eof": ({"StdinApp": {"eof": True}}, "End the input, after TEXT if there is one."),
    } | Command.flags

    async def run(self) -> int:
        """Send the line."""
        beginning, *text = self.arguments_given(1, 2)
        if not text and not self.eof:
            raise UsageError("give the text to send, or --eof")
        async with self.connect() as client:
            execution_id = await resolve_execution(client, beginning)
            sent = await client.send_stdin(execution_id, text[0] if text else UNSET, eof=True if self.eof else UNSET)
        if sent.queued:
            print(f"{sent.queued} lines wait for its next prompts")
        return DONE


class InterruptApp(Command):
    """Interrupt one execution."""

    name = "jupyter-broker-interrupt"
    arguments = "ID"
    description = """Interrupt an execution, as Ctrl-C would, and nothing else that its kernel runs.

    The exit status is 0 when it ended, and 1 when it goes on: then `jupyter broker kill` ends it.
    """
    examples = cleandoc("""
    jupyter broker interrupt 06f3k2        a unique beginning of an id is enough; `ps` shows ids
    """)

    async def run(self) -> int:
        """Interrupt it, and say what came of it."""
        (beginning,) = self.arguments_given(1, 1)
        async with self.connect() as client:
            execution = await client.interrupt(await resolve_execution(client, beginning))
        _say(execution)
        return DONE if execution.ended else FAILED


class KillApp(Command):
    """End one execution, or all."""

    name = "jupyter-broker-kill"
    arguments = "ID | --all"
    description = """End an execution: interrupt it first, and if that does not help, kill and restart its kernel.

    It says whether the kernel's state was preserved or lost.
    """
    examples = cleandoc("""
    jupyter broker kill 06f3k2        a unique beginning of an id is enough; `ps` shows ids
    jupyter broker kill --all         everything that runs or waits
    """)

    all = Bool(False, help="End every execution.").tag(config=True)
    flags: dict[Any, Any] = {"all": ({"KillApp": {"all": True}}, "End every execution.")} | Command.flags

    async def run(self) -> int:
        """End them, and say what came of it."""
        beginning = next(iter(self.arguments_given(0 if self.all else 1, 0 if self.all else 1)), None)
        async with self.connect() as client:
            killed = await client.kill(UNSET if beginning is None else await resolve_execution(client, beginning))
        for execution in killed:
            _say(execution)
        if not killed:
            print("nothing was running")
        return DONE


def _say(execution: Execution) -> None:
    kept = f"; the kernel's state is {execution.kernel_state}" if execution.kernel_state else ""
    print(f"{execution.execution_id} {execution.state}{kept}")
