"""``jupyter broker ps``, ``sessions`` and ``report``: what there is, to read or as JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from inspect import cleandoc
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText
from traitlets import Bool

from ..client import Client, ExecutionSummary
from .command import DONE, Command
from .quantities import duration, size

GOING_ON = ("running", "awaiting_input", "queued")
WIDE = 240
"""Columns of a table that no terminal shows: nothing of it is to be cut."""
REPORTED = (
    *("execution_id", "session_id", "label", "started_at", "duration", "lines", "bytes"),
    *("detached", "state", "idle_for", "input_request"),
)


class _Listing(Command):
    """A command that prints a table, or JSON."""

    json = Bool(False, help="Print JSON.").tag(config=True)
    flags: dict[Any, Any] = {"json": ({"_Listing": {"json": True}}, "Print JSON.")} | Command.flags

    def print_json(self, value: object) -> None:
        print(msgspec.json.format(msgspec.json.encode(value)).decode())

    def print_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
        for column in columns:
            right = column in ("DURATION", "LINES", "IDLE")
            last = column == columns[-1]
            table.add_column(
                column, justify="right" if right else "left", no_wrap=True, overflow="ellipsis" if last else "fold"
            )
        for row in rows:
            table.add_row(*(RichText(cell) for cell in row))
        Console(width=None if sys.stdout.isatty() else WIDE).print(table)


class PsApp(_Listing):
    """List executions."""

    name = "jupyter-broker-ps"
    description = """List the executions that run, wait for input or wait for their turn."""
    examples = cleandoc("""
    jupyter broker ps
    jupyter broker ps --all           those that are over as well
    jupyter broker ps --json
    """)

    all = Bool(False, help="List those that are over as well.").tag(config=True)
    flags: dict[Any, Any] = {
        ("a", "all"): ({"PsApp": {"all": True}}, "List those that are over as well."),
    } | _Listing.flags

    async def run(self) -> int:
        """Print the list."""
        self.arguments_given(0, 0)
        async with self.connect() as client:
            executions = await client.list_executions() if self.all else await going_on(client)
            if self.json:
                self.print_json(executions)
                return DONE
            names = {session.session_id: session.name for session in await client.list_sessions()}
        columns = ("ID", "SESSION", "STATE", "DURATION", "LINES", "IDLE", "LABEL")
        rows = [
            (
                execution.execution_id,
                names.get(execution.session_id, execution.session_id),
                execution.state,
                duration(execution.duration),
                f"{execution.lines:,}",
                duration(execution.idle_for),
                execution.title,
            )
            for execution in executions
        ]
        self.print_table(columns, rows)
        return DONE


class SessionsApp(_Listing):
    """List sessions."""

    name = "jupyter-broker-sessions"
    description = """List the open sessions and their kernels."""
    examples = cleandoc("""
    jupyter broker sessions
    jupyter broker sessions --json    with each kernel's pid and connection file
    """)

    async def run(self) -> int:
        """Print the list."""
        self.arguments_given(0, 0)
        async with self.connect() as client:
            sessions = await client.list_sessions()
        if self.json:
            self.print_json(sessions)
            return DONE
        rows = [
            (
                session.session_id,
                session.name,
                session.kernel,
                session.kernel_state,
                ", ".join(f"{count} {state}" for state, count in session.executions.items() if count) or "-",
                session.working_directory,
            )
            for session in sessions
        ]
        self.print_table(("ID", "NAME", "KERNEL", "STATE", "EXECUTIONS", "DIRECTORY"), rows)
        return DONE


class ReportApp(_Listing):
    """The report that a broker sends every minute, now."""

    name = "jupyter-broker-report"
    description = """Say how each running execution stands: what the broker reports every minute, now."""
    examples = cleandoc("""
    jupyter broker report
    jupyter broker report --json      as clients get it
    """)

    async def run(self) -> int:
        """Print a line an execution."""
        self.arguments_given(0, 0)
        async with self.connect() as client:
            executions = await going_on(client)
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if self.json:
            reported = [{name: getattr(execution, name) for name in REPORTED} for execution in executions]
            self.print_json({"time": now, "executions": reported})
            return DONE
        for execution in executions:
            print(_report_line(execution))
        if not executions:
            print("nothing is running")
        return DONE


async def going_on(client: Client) -> list[ExecutionSummary]:
    """The executions that are not over, the oldest first."""
    lists = await asyncio.gather(*(client.list_executions(state=state) for state in GOING_ON))
    # One that changed its state between two of the answers is in both.
    latest = {execution.execution_id: execution for listed in lists for execution in listed}
    return [latest[execution_id] for execution_id in sorted(latest)]


def _report_line(execution: ExecutionSummary) -> str:
    parts = [execution.execution_id, execution.state]
    if execution.label:
        parts.append(f"({execution.label})")
    if execution.started_at:
        parts.append(f"for {duration(execution.duration)}")
    parts.append(f"{execution.lines:,} lines, {size(execution.bytes)}")
    if execution.idle_for is not None:
        parts.append(f"quiet for {duration(execution.idle_for)}")
    if execution.input_request is not None:
        parts.append(f"asks {execution.input_request.prompt!r}")
    if execution.queue is not None:
        parts.append(f"number {execution.queue.position} in its queue")
    return " · ".join(parts)
