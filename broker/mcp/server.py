"""The MCP server: each tool, as calls to a broker."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
    ToolAnnotations,
)
from msgspec import UNSET, UnsetType

from .. import __version__
from ..client import BrokerError, Client, Execution, Progress
from ..discovery import DiscoveryError
from . import catalogue, old, prompts, reading, tools
from .prompts import Context, OpenPrompts, Round
from .tasks import Tasks

PROGRESS_EVERY = 1.0
"""Seconds between two progress notifications."""
LAST = 20
"""How many executions that are over `list` shows, if so asked."""
MOST_CLIENTS = 1000

Answer = CallToolResult | InputRequiredResult | dict[str, Any]
Connect = Callable[[], AbstractAsyncContextManager[Client]]
Peek = Callable[[], Awaitable[Execution | Progress]]


class Tools:
    """What the tools do. ``connect`` gives a client of the broker; ``directory`` is where new sessions begin."""

    def __init__(self, connect: Connect, directory: Path, *, session: str = "", kernel: str = "") -> None:
        self.connect = connect
        self._directory = directory
        self._session = session
        self._kernel = kernel
        self._numbers: dict[str, old.Numbers] = {}
        self.open_prompts = OpenPrompts()
        self.tasks = Tasks(self)

    def server(self) -> Server[Any]:
        """An MCP server that has them."""
        server: Server[Any] = Server(
            "jupyter-broker",
            version=__version__,
            title="Jupyter broker",
            instructions=catalogue.INSTRUCTIONS,
            on_list_tools=self._list_tools,
        )
        # Not as an argument: that is not typed for a task as its result.
        server.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        self.tasks.add_to(server)
        return server

    async def _list_tools(self, ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(
            tools=[
                Tool(
                    name=offered.name,
                    description=offered.description,
                    input_schema=catalogue.schema(offered.arguments),
                    annotations=ToolAnnotations(
                        read_only_hint=offered.reads,
                        destructive_hint=offered.destroys,
                        idempotent_hint=offered.reads,
                    ),
                )
                for offered in catalogue.OFFERED
            ]
        )

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> Answer:
        offered = catalogue.BY_NAME.get(params.name)
        if offered is None:
            return tools.failure(f"There is no tool {params.name!r}; there are {', '.join(catalogue.BY_NAME)}.")
        try:
            arguments = msgspec.convert(params.arguments or {}, offered.arguments)
            async with self.connect() as client:
                return await Call(self, ctx, client, params).answer(arguments)
        except msgspec.ValidationError as error:
            return tools.failure(f"Wrong arguments for {params.name}: {error}")
        except (old.Refused, BrokerError, DiscoveryError, OSError) as error:
            return tools.failure(str(error))

    def numbers(self, ctx: Context) -> old.Numbers:
        """The numbers of the client that calls."""
        headers = getattr(ctx.request, "headers", None) or {}
        key = headers.get("mcp-session-id", "")
        if key not in self._numbers and len(self._numbers) >= MOST_CLIENTS:
            del self._numbers[next(iter(self._numbers))]
        return self._numbers.setdefault(key, old.Numbers())

    async def place(self, client: Client, arguments: catalogue.Execute) -> dict[str, Any]:
        """Which session code runs in, and how it is made if there is none of that name."""
        given = arguments.working_directory or arguments.workingDirectory
        directory = str(self._directory) if given is UNSET else _absolute(given)
        kernel = arguments.kernel or self._kernel or UNSET
        name = arguments.session or (UNSET if given else self._session or UNSET)
        if name is UNSET:
            name = f"{directory} ({kernel})" if kernel else directory
            # Names have 200 characters at most, and what tells paths apart is at their end.
            return {"session": name[-200:], "kernel": kernel, "working_directory": directory}
        if given is UNSET and await _exists(client, name):
            return {"session": name, "kernel": arguments.kernel}
        return {"session": name, "kernel": kernel, "working_directory": directory}


class Call:
    """One call of a tool."""

    def __init__(self, tools: Tools, ctx: Context, client: Client, params: CallToolRequestParams) -> None:
        self._tools = tools
        self._ctx = ctx
        self._client = client
        self._params = params

    async def answer(self, arguments: catalogue.Arguments) -> Answer:
        """Its result."""
        match arguments:
            case catalogue.Execute() if arguments.is_old:
                form = old.OldForm(self._tools.numbers(self._ctx), self._client, arguments)
                return await form.answer(lambda: self._run(arguments))
            case catalogue.Execute():
                return await self._execute(arguments)
            case catalogue.Wait():
                return await self._wait(arguments)
            case catalogue.Read():
                return await self._read(arguments)
            case catalogue.Input():
                return await self._input(arguments)
            case catalogue.Stop():
                return await self._stop(arguments)
            case catalogue.List():
                return await self._list(arguments)
        raise NotImplementedError(arguments)

    async def _execute(self, arguments: catalogue.Execute) -> Answer:
        again = self._round()
        if again is None and arguments.code is UNSET:
            raise old.Refused("execute needs code.")
        execution = await self._resume(again, arguments) if again else await self._run(arguments)
        waits = execution.state != "awaiting_input" or prompts.may_ask(self._ctx, execution)
        if not execution.ended and waits and self._tools.tasks.spoken(self._ctx):
            return self._tools.tasks.created(execution)
        return await self._settled(execution, arguments, again)

    async def _run(self, arguments: catalogue.Execute) -> Execution:
        """Submit code, and wait."""
        assert arguments.code is not UNSET
        code, request_id = arguments.code, uuid.uuid4().hex
        place = await self._tools.place(self._client, arguments)
        pending = self._client.execute(
            code,
            **place,
            wait=arguments.wait,
            stdin=arguments.stdin,
            on_busy=arguments.on_busy,
            request_id=request_id,
            max_output=tools.characters(arguments.max_tokens),
        )

        async def peek() -> Execution:
            # The same request again: the broker answers with the execution that there is.
            return await self._client.execute(
                code, session=place["session"], request_id=request_id, wait=0, max_output=200
            )

        return await self._watched(pending, peek, arguments.wait)

    async def _wait(self, arguments: catalogue.Wait) -> CallToolResult | InputRequiredResult:
        again = self._round()
        execution = await self._resume(again, arguments) if again else await self._waited(arguments)
        return await self._settled(execution, arguments, again)

    async def _input(self, arguments: catalogue.Input) -> CallToolResult | InputRequiredResult:
        again = self._round()
        if again:
            return await self._settled(await self._resume(again, arguments), arguments, again)
        if arguments.text is UNSET and not arguments.eof:
            raise old.Refused("input needs text, or eof=true.")
        await self._client.send_stdin(arguments.execution_id, arguments.text, eof=arguments.eof)
        return await self._settled(await self._waited(arguments), arguments, None)

    async def _waited(self, arguments: catalogue.Wait | catalogue.Input) -> Execution:
        return await self._wait_for(
            arguments.execution_id,
            arguments,
            arguments.after,
            until=arguments.until if isinstance(arguments, catalogue.Wait) else UNSET,
        )

    async def _wait_for(self, id: str, arguments: Any, after: int, *, until: Any = UNSET) -> Execution:
        most = tools.characters(arguments.max_tokens)
        pending = self._client.wait(id, wait=arguments.wait, until=until, after=after, max_output=most)
        return await self._watched(
            pending, lambda: self._client.get_progress(id, after=after, max_output=200), arguments.wait
        )

    async def _read(self, arguments: catalogue.Read) -> CallToolResult:
        id, budget = arguments.execution_id, arguments.max_tokens
        if not arguments.whole:
            progress = await self._client.get_progress(
                id,
                after=arguments.after if arguments.since is UNSET else UNSET,
                since=arguments.since,
                max_output=tools.characters(budget),
            )
            return tools.progress_result(progress, after=arguments.after, budget=budget)
        if arguments.since is not UNSET:
            raise old.Refused("whole goes on after a seq; leave since out.")
        state = (await self._client.get_progress(id, after=arguments.after, max_output=200)).state
        text, seq, eof = await reading.page(self._client, id, arguments.after, budget - tools.FACTS)
        return tools.page_result(id, text, seq, eof=eof, state=state)

    async def _stop(self, arguments: catalogue.Stop) -> CallToolResult:
        id = arguments.execution_id
        if arguments.kill:
            execution = next(iter(await self._client.kill(id)))
        else:
            execution = await self._client.interrupt(id)
        next_step = ""
        if not execution.ended:
            next_step = (
                f"It was interrupted several times and runs on. stop(execution_id={id!r}, kill=true) ends it, at the "
                "price of the session's variables and of all else that runs there."
            )
        return await self._result(execution, arguments.max_tokens, 0, next_step)

    async def _list(self, arguments: catalogue.List) -> CallToolResult:
        if arguments.all:
            every = await self._client.list_executions()
            shown = [each for each in every if not each.ended] + [each for each in every if each.ended][-LAST:]
        else:
            states = ("running", "awaiting_input", "queued")
            found = await asyncio.gather(*(self._client.list_executions(state=state) for state in states))
            shown = [each for summaries in found for each in summaries]
        shown.sort(key=lambda each: each.created_at)
        names = {session.session_id: session.name for session in await self._client.list_sessions()}
        return tools.list_result(shown, names)

    # Prompts

    def _round(self) -> Round | None:
        try:
            return Round.of(self._params)
        except msgspec.DecodeError:
            raise old.Refused("requestState is none of this server's; make the call without it.") from None

    async def _resume(self, again: Round, arguments: Any) -> Execution:
        """Go on with a call that is made again: with an answer, or without one."""
        response = (self._params.input_responses or {}).get(prompts.KEY)
        line = prompts.answer_in(response)
        if line is None:
            return await self._client.wait(again.execution_id, wait=0, after=again.after)
        await self._tools.open_prompts.answer(self._client, again.execution_id, again.prompt_seq, line)
        return await self._wait_for(again.execution_id, arguments, again.after)

    async def _settled(
        self, execution: Execution, arguments: Any, again: Round | None
    ) -> CallToolResult | InputRequiredResult:
        """The result, once the prompts are answered that a person at the client answers."""
        after = again.after if again else getattr(arguments, "after", 0)
        refused = again is not None and prompts.answer_in((self._params.input_responses or {}).get(prompts.KEY)) is None
        while not refused and prompts.may_ask(self._ctx, execution):
            id = execution.execution_id
            seq = await self._tools.open_prompts.seq(self._client, id)
            if prompts.is_modern(self._ctx):
                number = again.number + 1 if again else 1
                if number > prompts.MOST_ROUNDS:
                    break
                return prompts.required(execution, Round(id, seq, number, after))
            line = await prompts.ask(self._ctx, execution)
            if line is None:
                break
            await self._tools.open_prompts.answer(self._client, id, seq, line)
            execution = await self._wait_for(id, arguments, after)
        return await self._result(execution, arguments.max_tokens, after)

    async def _result(self, execution: Execution, budget: int, after: int, next_step: str = "") -> CallToolResult:
        return await reading.complete_result(self._client, execution, budget=budget, after=after, next_step=next_step)

    # Progress

    async def _watched(self, pending: Awaitable[Execution], peek: Peek, wait: float | UnsetType | None) -> Execution:
        """Await an execution, and tell the client meanwhile how it stands, if it wants to hear it."""
        if (self._ctx.meta or {}).get("progress_token") is None:
            return await pending
        waiting = asyncio.ensure_future(pending)
        clock = asyncio.get_running_loop().time
        began = clock()
        total = wait if isinstance(wait, float | int) and wait else None
        try:
            while not (await asyncio.wait({waiting}, timeout=PROGRESS_EVERY))[0]:
                look = await peek()
                await self._ctx.session.report_progress(round(clock() - began, 1), total, _line(look))
            return await waiting
        finally:
            waiting.cancel()


async def _exists(client: Client, session: str) -> bool:
    return any(session in (each.name, each.session_id) for each in await client.list_sessions())


def _line(look: Execution | Progress) -> str:
    """How it stands, in a line: the last that it printed."""
    last = look.text.rstrip().rpartition("\n")[2][-200:]
    return last or f"{look.state}, {look.lines} lines"


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
