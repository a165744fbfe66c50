"""The kernel: ipykernel's base, with executions that run side by side in one engine and are interrupted one by one."""

from __future__ import annotations

import asyncio
import collections
import inspect
import os
import re
import signal
from contextvars import copy_context
from typing import Any

from broker_kernel.prompts import EOF, Prompt, Prompts
from broker_kernel.wire import Session
from ipykernel.kernelbase import Kernel as BaseKernel

from .engine import Engine
from .rewriting import Cell, Cells, completeness
from .text import SOON, STREAMS, TextFile

MAIN = "main"
REMEMBERED = 100_000
"""Requests whose ids are known, so that none runs twice, and whose late output still finds its place."""
DECLARED = re.compile(r"Identifier '(.+)' has already been declared")


class Execution:
    """One ``execute_request``."""

    def __init__(self, parent: dict[str, Any], ident: list[bytes]) -> None:
        self.id: str = parent["header"]["msg_id"]
        self.parent, self.ident = parent, ident
        self.lane: str = parent["header"].get("subshell_id") or MAIN
        self.done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class Lane:
    """Where requests are handled one at a time. Those of another lane do not wait for them."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.arrived = 0
        self.aborted = 0
        """What arrived up to this one, and is to be executed, is not."""


class _Asked(Prompt):
    """A prompt that the engine waits for."""

    def __init__(self, execution: Execution, content: dict[str, Any]) -> None:
        super().__init__(execution, execution.ident, content)
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()

    def answered(self) -> None:
        self._loop.call_soon_threadsafe(self.close)

    def close(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class Kernel(BaseKernel):  # type: ignore[misc]
    """See the module."""

    implementation = "jupyter-broker-javascript"
    implementation_version = "1"
    banner = "JavaScript, run by Node.js"
    session: Session
    engine: Engine

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.control_handlers["configure_request"] = self.configure_request
        self.control_handlers["roll_call_request"] = self.roll_call_request
        self.language_info = {
            "name": "javascript",
            "version": "",
            "mimetype": "text/javascript",
            "file_extension": ".js",
            "codemirror_mode": "javascript",
        }
        self._lanes: dict[str, Lane] = collections.defaultdict(Lane)
        self._received: collections.OrderedDict[str, dict[str, Any]] = collections.OrderedDict()
        self._running: dict[str, Execution] = {}
        self._latest = ""
        self._cells = Cells()
        self._prompts = Prompts(self.session, self.stdin_socket, self.iopub_thread)
        self._asked: dict[int, _Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False
        self._exit_status: int | None = None
        """What the code wants the engine to exit with."""

    @property
    def kernel_info(self) -> dict[str, Any]:
        # Not what ipykernel can do, were this Python.
        return {**super().kernel_info, "supported_features": []}

    def start(self) -> None:
        super().start()
        self.io_loop.add_callback(self._start_engine)

    async def _start_engine(self) -> None:
        self._text = TextFile(self.parent.text_path, self._publish_text)
        self.engine = Engine(self.parent.text_path, self._told, self._printed, self._engine_ended)
        signal.signal(signal.SIGINT, lambda *_: self._interrupt_main())

    # Requests come in

    async def shell_main(self, subshell_id: str | None, msg: list[Any]) -> None:
        """Handle a request, after those before it in its lane."""
        try:
            idents, frames = self.session.feed_identities(msg, copy=False)
            request = self.session.deserialize(frames, content=True, copy=False)
        except Exception:
            self.log.exception("an invalid message was dropped")
            return
        header = request["header"]
        if header["msg_type"] == "execute_request":
            if header["msg_id"] in self._received:
                return
            self._received[header["msg_id"]] = request
            if len(self._received) > REMEMBERED:
                self._received.popitem(last=False)
        # Whose request is at hand is known from the context, so each has one of its own.
        await asyncio.create_task(self._handle(idents, request), context=copy_context())

    async def _handle(self, idents: list[bytes], request: dict[str, Any]) -> None:
        msg_type = request["header"]["msg_type"]
        lane = self._lanes[request["header"].get("subshell_id") or MAIN]
        lane.arrived += 1
        place = lane.arrived
        async with lane.lock:
            self.set_parent(idents, request, channel="shell")
            self._publish_status("busy", "shell")
            if msg_type == "execute_request" and place <= lane.aborted:
                self._send_abort_reply(self.shell_stream, request, idents)
            elif handler := self.shell_handlers.get(msg_type):
                try:
                    handled = handler(self.shell_stream, idents, request)
                    if inspect.isawaitable(handled):
                        await handled
                except Exception:
                    self.log.exception("a %s failed", msg_type)
            self._publish_status("idle", "shell")

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        lane = self._lanes[subshell_id or MAIN]
        lane.aborted = lane.arrived

    # Executions

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        count = self.execution_count
        ident = self._get_shell_context_var(self._shell_parent_ident)
        execution = Execution(self.get_parent("shell"), ident)
        self._running[execution.id] = execution
        self._latest = execution.id
        try:
            answer = await self._evaluate(execution, code, count, allow_stdin)
        finally:
            del self._running[execution.id]
        if error := answer.get("error"):
            about = {key: error[key] for key in ("ename", "evalue")}
            about["traceback"] = self._cells.traceback(error["traceback"])
            if not silent:
                self._publish(execution, "error", about)
            return {"status": "error", "execution_count": count, **about}
        if (data := answer.get("data")) and not silent:
            self._publish(execution, "execute_result", {"execution_count": count, "data": data, "metadata": {}})
        return {"status": "ok", "execution_count": count, "payload": [], "user_expressions": {}}

    async def _evaluate(self, execution: Execution, code: str, count: int, allow_stdin: bool) -> dict[str, Any]:
        anew: frozenset[str] = frozenset()
        while True:
            cell = Cell(code, count, anew)
            self._cells.add(count, cell)
            about = {"id": execution.id, "name": cell.name, "allowStdin": allow_stdin, "shows": cell.shows}
            self.engine.send("execute", code=cell.evaluated, **about)
            answer = await execution.done
            error = answer.get("error") or {}
            declared = DECLARED.fullmatch(error.get("evalue", ""))
            if not (error.get("nothingRan") and declared) or declared[1] in anew:
                return answer
            anew |= {declared[1]}
            execution.done = asyncio.get_running_loop().create_future()

    def _publish(self, execution: Execution, msg_type: str, content: dict[str, Any]) -> None:
        self.session.send(self.iopub_socket, msg_type, content, parent=execution.parent, ident=self._topic(msg_type))

    # The engine tells

    def _told(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "full":
            self._text.empty()
            self.engine.acknowledge()
            return
        # What was printed before it comes before it.
        self._text.send()
        if frame["type"] == "text":
            self.io_loop.call_later(SOON, self._text.send)
        elif frame["type"] == "done":
            if (execution := self._running.get(frame["id"])) and not execution.done.done():
                execution.done.set_result(frame)
        elif frame["type"] == "input":
            task = asyncio.ensure_future(self._ask(frame))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif frame["type"] == "input_closed":
            if asked := self._asked.get(frame["number"]):
                asked.close()
        elif frame["type"] == "exit":
            self._exit_status = int(frame["status"])
            self.engine.kill()
        elif frame["type"] == "ready":
            self.language_info["version"] = frame["version"]
            promises = dict.fromkeys(("nothing_lost", "concurrent", "interrupts_one"), True)
            # A worker's output comes through the main thread, and a child's through descriptors that all share.
            promises |= {"threads_attributed": False, "descriptors_attributed": False}
            self.session.tell("hello", {"promises": promises})

    def _publish_text(self, id: str, name: str, text: str, epoch: int, offset: int) -> None:
        parent = self._received.get(id) or {"header": {"msg_id": id}}
        self.session.publish_text(self.iopub_thread, parent, name, text, epoch, offset)

    def _printed(self, number: int, text: str) -> None:
        """The engine's descriptors: child processes that inherited them, or V8's last words."""
        self._text.send()
        self._publish_text(self._latest, STREAMS[number], text, 0, 0)

    def _engine_ended(self, status: int) -> None:
        self._text.send()
        if not self._ending:
            status = status if self._exit_status is None else self._exit_status
            self.log.error("the JavaScript engine ended, with status %s", status)
            self.parent.end(status)

    # Input

    async def _ask(self, frame: dict[str, Any]) -> None:
        execution = self._running.get(frame["id"])
        if execution is None:
            parent = self._received.get(frame["id"])
            if parent is None:
                return
            execution = Execution(parent, [])
        asked = self._asked[frame["number"]] = _Asked(
            execution, {"prompt": frame["prompt"], "password": frame["password"]}
        )
        with self._prompts.asking(asked):
            await asked.over
        del self._asked[frame["number"]]
        if asked.answer is not None:
            value = None if asked.answer == EOF else asked.answer
            self.engine.send("input", number=frame["number"], value=value)

    # Interrupts

    def _interrupt_main(self) -> None:
        for execution in list(self._running.values()):
            if execution.lane == MAIN:
                self.engine.send("interrupt", id=execution.id)

    async def interrupt_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Interrupt the execution that the request names; the main shell's if it names none."""
        wanted = parent.get("content", {}).get("execution_id")
        if wanted is None:
            self._interrupt_main()
        else:
            self.engine.send("interrupt", id=wanted)
        self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    # What only a broker asks

    async def configure_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Take a place: a kernel that was started before anybody knew for whom gets its directory and environment."""
        content = parent["content"]
        os.environ.update(content.get("env", {}))
        if content.get("cwd"):
            os.chdir(content["cwd"])
        self.engine.send("configure", cwd=content.get("cwd"), env=content.get("env", {}))
        self.parent.taken = True
        self.session.tell("configured", {})

    async def roll_call_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Tell a broker that has come back which requests have ever arrived."""
        self.session.tell(
            "roll_call",
            {"received": list(self._received), "running": list(self._running), "prompts": self._prompts.open},
        )

    # What clients ask besides

    async def do_is_complete(self, code: str) -> dict[str, Any]:
        status = completeness(code)
        return {"status": status, "indent": ""} if status == "incomplete" else {"status": status}

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        self._ending = True
        self.engine.kill()
        return {"status": "ok", "restart": restart}
