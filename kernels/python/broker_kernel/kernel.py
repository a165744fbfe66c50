"""The kernel: ipykernel's, with cells that run side by side and can be interrupted one by one."""

from __future__ import annotations

import asyncio
import builtins
import collections
import contextlib
import functools
import getpass
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.subshell import SubshellThread
from ipykernel.subshell_manager import SubshellManager
from ipykernel.utils import _async_in_context
from IPython.core import debugger
from traitlets import Type

from . import debugging, descriptors
from .cells import Cell, cells
from .interrupts import Lane, current_lane, lanes
from .prompts import Prompts
from .routing import GUEST, Request, Routing, packed_header
from .shell import Shell
from .wire import Session

LANE = "lane-"
"""How the id of a subshell begins that is made when it is first needed."""
REMEMBERED = 100_000
"""Requests whose ids are known, so that none runs twice."""


class Kernel(IPythonKernel):  # type: ignore[misc]
    """See the module."""

    shell_class = Type(Shell)
    session: Session
    _execute_sleep = 0.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.control_handlers["configure_request"] = self.configure_request
        self.control_handlers["roll_call_request"] = self.roll_call_request
        self._received: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._routing = Routing()
        self._prompts = Prompts(self.session, self.stdin_socket, self.iopub_thread)
        main = threading.main_thread().ident
        assert main is not None
        self._main = lanes[main] = Lane(main, is_main=True)
        # For good: what one cell puts back would be missing in another.
        builtins.input = self.raw_input
        getpass.getpass = self.getpass

    def start(self) -> None:
        super().start()
        signal.signal(signal.SIGINT, self._on_sigint)
        promises = dict.fromkeys(("nothing_lost", "concurrent", "interrupts_one", "threads_attributed"), True)
        promises["descriptors_attributed"] = descriptors.epoll is not None
        self.session.tell("hello", {"promises": promises})

    # Requests come in

    async def shell_channel_thread_main(self, msg: list[Any]) -> None:
        """Send a request to its shell: none runs twice, and a lane is made when it is first needed."""
        header: dict[str, Any] = {}
        # What is no message of ours is left to ipykernel, which says so.
        with contextlib.suppress(ValueError, IndexError):
            request = Request.read(msg, self.session)
            header = request.header
            if header.get("msg_type") == "execute_request":
                if header["msg_id"] in self._received:
                    return
                self._received[header["msg_id"]] = None
                if len(self._received) > REMEMBERED:
                    self._received.popitem(last=False)
            lane, packed = header.get("subshell_id"), request.packed
            if lane is None:
                client = str(header.get("session", ""))
                lane = self._routing.choose(client)
                if lane is not None:
                    msg, packed = request.to(lane, self.session)
                self._routing.begin(lane, client, packed)
            manager = self.shell_channel_thread.manager
            if isinstance(lane, str) and lane.startswith((LANE, GUEST)) and lane not in manager.list_subshell():
                create_subshell(manager, lane)
        # Of a comm that is not there ipykernel complains here already. That is no output of the latest cell.
        about = cells.adopt({"header": header})
        try:
            await super().shell_channel_thread_main(msg)
        finally:
            cells.reset(about)

    async def shell_main(self, subshell_id: str | None, msg: list[Any]) -> None:
        try:
            await super().shell_main(subshell_id, msg)
        finally:
            with contextlib.suppress(ValueError, IndexError):
                self._routing.end(packed_header(msg))

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:
        if channel == "shell":
            cells.enter(parent)
        super().set_parent(ident, parent, channel)

    async def execute_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        cell, lane = cells.current(), self._lane()
        content = parent.get("content", {})
        cell.code, cell.allow_stdin = str(content.get("code", "")), bool(content.get("allow_stdin"))
        if lane.is_main:
            signal.signal(signal.SIGINT, self._on_sigint)
        if not self.debugger_attached:
            sys.breakpointhook = breakpointhook
        with cells.executing(cell, lane):
            await super().execute_request(stream, ident, parent)

    @property
    def debugger_attached(self) -> bool:
        """Whether a debugger of the frontend takes breakpoints."""
        return bool(getattr(getattr(self, "debugger", None), "is_started", False))

    def _lane(self) -> Lane:
        """The lane that this thread is. Its event loop runs."""
        lane = current_lane()
        if lane is None:
            thread = threading.get_ident()
            lane = lanes[thread] = Lane(thread, is_main=False)
        lane.loop = asyncio.get_running_loop()
        return lane

    @contextlib.contextmanager
    def _cancel_on_sigint(self, future: Any) -> Iterator[None]:
        # The cell awaits something. What interrupts it is :class:`~broker_kernel.interrupts.Lane`.
        cell = cells.current()
        cell.task = future
        try:
            yield
        finally:
            cell.task = None

    _dummy_context_manager = _cancel_on_sigint

    def pre_handler_hook(self) -> None:
        """SIGINT has its handler already."""

    post_handler_hook = pre_handler_hook

    # Interrupts

    def _on_sigint(self, signum: int, frame: object) -> None:
        self._main.on_sigint()

    async def interrupt_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Interrupt the execution that the request names; the main shell's if it names none."""
        wanted = parent.get("content", {}).get("execution_id")

        def meant() -> list[tuple[Lane, Cell]]:
            running = [(lane, lane.cell) for lane in list(lanes.values()) if lane.cell is not None]
            return [(lane, cell) for lane, cell in running if cell.id == wanted or (wanted is None and lane.is_main)]

        await debugging.go_on(getattr(self, "debugger", None), [cell for _, cell in meant()])
        for lane, _ in meant():
            lane.interrupt()
        self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    # Debugging

    async def do_debug_request(self, msg: dict[str, Any]) -> Any:
        reply = await super().do_debug_request(msg)
        if msg["command"] in debugging.TRACED_FROM:
            debugging.trace_frames([lane.thread_id for lane in list(lanes.values()) if lane.cell is not None])
        return reply

    # What only a broker asks

    async def configure_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Take a place: a kernel that was started before anybody knew for whom gets its directory and environment."""
        content = parent["content"]
        os.environ.update(content.get("env", {}))
        if content.get("cwd"):
            os.chdir(content["cwd"])
        self.parent.taken = True
        self.session.tell("configured", {})

    async def roll_call_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Tell a broker that has come back which requests have ever arrived."""
        self.session.tell(
            "roll_call", {"received": list(self._received), "running": cells.running, "prompts": self._prompts.open}
        )

    # Input

    def _forward_input(self, allow_stdin: bool = False) -> None:
        """It is forwarded always."""

    def _restore_input(self) -> None:
        """See there."""

    def raw_input(self, prompt: object = "") -> str:
        return self._ask(str(prompt), password=False)

    def getpass(self, prompt: str = "Password: ", stream: object = None, *, echo_char: str | None = None) -> str:
        return self._ask(str(prompt), password=True)

    def _ask(self, prompt: str, *, password: bool) -> str:
        cell = cells.current()
        if not cell.allow_stdin:
            self._no_raw_input()
        sys.stdout.flush()
        sys.stderr.flush()
        ident = self._get_shell_context_var(self._shell_parent_ident)
        return self._prompts.ask(cell, ident, prompt, password=password)


def create_subshell(manager: SubshellManager, id: str) -> None:
    """Make a subshell with an id of the broker's choice. Called in the thread of the shell channel."""
    thread = SubshellThread(id, manager._context, daemon=True)
    # User code runs here, and may be debugged.
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = False
    with manager._lock_cache:
        manager._cache[id] = thread
    receive = _async_in_context(functools.partial(manager._on_recv_callback, id))
    thread.shell_channel_to_subshell.on_recv(thread.io_loop, receive)
    thread.subshell_to_shell_channel.on_recv(manager._shell_channel_io_loop, manager._send_on_shell_channel)
    thread.start()


def breakpointhook(*args: Any, **kwargs: Any) -> None:
    """``breakpoint()``: IPython's debugger, which asks through ``input()``."""
    debugger.set_trace(sys._getframe(1))
