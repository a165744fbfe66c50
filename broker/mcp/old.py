"""The older form of ``execute``: one tool with actions, and small numbers as ids.

Prompts have been written for it, so its names and texts are kept to the letter.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from mcp_types import CallToolResult, TextContent
from msgspec import UNSET, UnsetType

from ..client import Client, Execution
from .catalogue import Execute
from .reading import timed_ends
from .tools import FACTS, cut, is_secret

MORE = "Use get_async_log to view further progress"


class Refused(Exception):
    """The arguments cannot be carried out. The message says what is wrong and what to do."""


class Numbers:
    """One client's executions, numbered from 0 in the order in which it sent them."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def of(self, execution_id: str) -> str:
        """The number of an execution; the next one, for one that has none yet."""
        if execution_id not in self._ids:
            self._ids.append(execution_id)
        return str(self._ids.index(execution_id))

    def id(self, number: str) -> str:
        """The execution of a number. What is not a number is taken for the broker's own id.

        Raises:
            Refused: there is no such number.
        """
        if not number.isdecimal():
            return number
        if int(number) < len(self._ids):
            return self._ids[int(number)]
        known = f'ids go from "0" to "{len(self._ids) - 1}"' if self._ids else "nothing was executed yet"
        raise Refused(f"There is no execution {number!r}: {known}. Use list_async_executions to see what runs.")

    def all(self) -> list[tuple[str, str]]:
        """Numbers and ids."""
        return [(str(number), id) for number, id in enumerate(self._ids)]


class OldForm:
    """Answers it for one client. ``run`` submits code, and returns as the broker does."""

    def __init__(self, numbers: Numbers, client: Client, arguments: Execute) -> None:
        self._numbers = numbers
        self._client = client
        self._arguments = arguments

    async def answer(self, run: Callable[[], Awaitable[Execution]]) -> CallToolResult:
        """Run code, or do what the action says.

        Raises:
            Refused: something is missing, or unknown.
        """
        if self._arguments.code is not UNSET:
            return _text(await self._execute(run))
        match self._arguments.action:
            case "kill":
                return _text(await self._kill())
            case "get_async_log":
                return _text(await self._get_async_log())
            case "list_async_executions":
                return _text(await self._list())
            case "clear_history":
                return _text(await self._clear_history())
            case "get_progress":
                return _text(await self._get_progress())
            case "send_stdin":
                return _text(await self._send_stdin())
        raise Refused("Give code to run, or an action.")

    async def _execute(self, run: Callable[[], Awaitable[Execution]]) -> str:
        began = time.monotonic()
        execution = await run()
        seconds = round(time.monotonic() - began)
        number = self._numbers.of(execution.execution_id)
        if execution.ended:
            said = (
                "" if execution.state in ("completed", "failed") else f"\n[{execution.state}. {execution.hint or ''}]"
            )
            whole = f"use get_async_log with executionId {number!r} to view all"
            return cut(execution.text, self._budget, whole)[0] + said or "(no output)"
        happened = f"Execution moved to async mode after {seconds} seconds."
        if execution.state == "awaiting_input":
            prompt = execution.input_request.prompt if execution.input_request else ""
            answers = "answer it with send_stdin."
            if is_secret(execution):
                answers = f"the user answers it, in a terminal: jupyter broker attach {execution.execution_id}"
            happened += f" It waits for input ({prompt!r}); {answers}"
        progress = await self._log(execution.execution_id)
        return f"{happened}\n\n{progress}\n\n[Execution ID: {number} - {MORE}]"

    async def _kill(self) -> str:
        if self._arguments.executionId is not UNSET:
            chosen = [(self._arguments.executionId, self._id())]
        else:
            states = {each.execution_id: each.ended for each in await self._client.list_executions()}
            # The last first: what is queued must not begin when what runs before it ends.
            chosen = [(number, id) for number, id in self._numbers.all() if not states.get(id, True)][::-1]
        said = []
        for number, id in chosen:
            for execution in await self._client.kill(id):
                variables = f"; the kernel's state is {execution.kernel_state}" if execution.kernel_state else ""
                said.append(f"Execution {number}: {execution.state}{variables}")
        return "\n".join(reversed(said)) or "Nothing runs."

    async def _get_async_log(self) -> str:
        id = self._id()
        # In this order: the log of what is said to be over must have its end.
        execution = await self._client.get_progress(id, max_output=200)
        log = await self._log(id)
        if self._arguments.clearHistory is True:
            await self._client.clear_history(id)
        return f"{log or '(nothing)'}\n\n[Execution ID: {self._arguments.executionId} - {execution.state}]"

    async def _list(self) -> str:
        running = {each.execution_id: each for each in await self._client.list_async_executions()}
        lines = [
            f"{number}: {each.state}, {each.duration or 0:.0f} seconds, {each.lines} lines: {each.title[:80]}"
            for number, id in self._numbers.all()
            if (each := running.get(id)) is not None
        ]
        return "\n".join(lines) or "No async executions."

    async def _clear_history(self) -> str:
        cleared = await self._client.clear_history(self._id(), clear_history=self._arguments.clearHistory)
        return f"History of execution {self._arguments.executionId} cleared ({cleared.cleared} entries)."

    async def _get_progress(self) -> str:
        id = self._id()
        execution = await self._client.get_progress(id, max_output=200)
        log = await self._log(id, self._arguments.since)
        return f"{log or '(nothing)'}\n\n[Execution ID: {self._arguments.executionId} - {execution.state}]"

    async def _send_stdin(self) -> str:
        if self._arguments.stdinData is UNSET:
            raise Refused("send_stdin needs stdinData.")
        id = self._id()
        sent = await self._client.send_stdin(id, self._arguments.stdinData)
        what = "delivered" if sent.delivered else "queued for its next prompt"
        return f"Input {what}.\n\n[Execution ID: {self._arguments.executionId} - {MORE}]"

    def _id(self) -> str:
        if self._arguments.executionId is UNSET:
            raise Refused(f"{self._arguments.action} needs executionId. Use list_async_executions to see what runs.")
        return self._numbers.id(self._arguments.executionId)

    async def _log(self, id: str, since: str | UnsetType = UNSET) -> str:
        return await timed_ends(self._client, id, since, self._budget)

    @property
    def _budget(self) -> int:
        # There is no structure beside the text, so that it may have twice as much.
        return (self._arguments.max_tokens - FACTS) * 2


def _text(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])
