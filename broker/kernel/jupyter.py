"""A kernel that jupyter_client starts, spoken to over its own sockets.

The sockets are ours because jupyter_client's asynchronous client writes through a shadow of the socket that it reads
from, where a reply can get stuck; because IOPub needs its receive limit lifted before it connects (ZeroMQ drops
silently at its high-water mark, 1,000 messages by default); and because shell and stdin must share one ZMQ identity,
the same before and after a restart of the broker, for the kernel to find its way back to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import uuid
from typing import Any

import msgspec
import zmq
from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_client.manager import KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.session import Session as JupyterSession
from jupyter_client.session import msg_header
from jupyter_core.utils import ensure_async

from ..core import messages as m
from ..core.lanes import MAIN
from ..core.records import SessionRecord
from .driver import KernelDriver, Report
from .provisioner import BrokerProvisioner
from .wire import DELIMITER, Channel, InvalidMessage, Message, unpack

log = logging.getLogger(__name__)

EOF = "\x04"
"""What makes ``input()`` raise EOFError (ipykernel)."""
NUDGE = 1.0
"""Seconds after which a kernel that has not answered yet is asked again."""
OVERTAKING = 0.02
"""Seconds by which a prompt may be ahead of the output that was printed before it."""
POLITE = 3.0
"""Seconds that a kernel has to shut down when it was asked to."""
LAST_WORDS = 1.0
"""Seconds at most until a dead kernel's sockets must have given all they had."""
LOG_TAIL = 4000
"""Characters of a kernel's stderr that go into an error."""


class _Reply(msgspec.Struct, frozen=True):
    status: str = ""
    ename: str | None = None
    evalue: str | None = None
    traceback: list[str] = []
    execution_count: int | None = None


class _Status(msgspec.Struct, frozen=True):
    execution_state: str = ""


class _Prompt(msgspec.Struct, frozen=True):
    prompt: str = ""
    password: bool = False


_reply = msgspec.json.Decoder(_Reply)
_status = msgspec.json.Decoder(_Status)
_prompt = msgspec.json.Decoder(_Prompt)


class _Probe(msgspec.Struct):
    execution_id: str | None
    replied: bool = False
    idle: bool = False


class JupyterDriver(KernelDriver):
    """See :class:`~broker.kernel.driver.KernelDriver`. ``start_timeout`` is in seconds."""

    def __init__(self, report: Report, manager: AsyncMultiKernelManager, *, start_timeout: float = 60.0) -> None:
        super().__init__(report)
        self._manager = manager
        self._start_timeout = start_timeout
        self._km: KernelManager | None = None
        self._link: _Link | None = None
        self._watch: asyncio.Task[None] | None = None
        self._killed = False
        self._probes: dict[str, _Probe] = {}
        self._answered = asyncio.Event()

    # Life and death

    async def start(self, session: SessionRecord) -> None:
        self._killed = False
        kernel_id = _kernel_id(session)
        env = {name: value for name, value in os.environ.items() if name != "JUPYTER_BROKER_TOKEN"}
        try:
            await self._manager.start_kernel(
                kernel_name=session.kernel, kernel_id=kernel_id, cwd=session.working_directory, env=env | session.env
            )
        except Exception as error:  # whatever a kernelspec or a provisioner can fail with
            self._manager._pending_kernels.pop(kernel_id, None)
            self.report(m.KernelStartFailed(f"kernel {session.kernel!r} could not be started: {error}"))
            return
        self._take(self._manager.get_kernel(kernel_id))
        provisioner = self._provisioner
        self.report(
            m.KernelLaunched(kernel_id, provisioner.pid, provisioner.pid_created, self._km.connection_file)  # type: ignore[union-attr]
        )
        await self._get_ready(session.kernel)

    async def _get_ready(self, kernel: str) -> None:
        provisioner = self._provisioner
        ended = asyncio.ensure_future(provisioner.ended())
        if self._killed:
            await provisioner.kill()
        ready = asyncio.ensure_future(self._until_ready())
        await asyncio.wait({ended, ready}, timeout=self._start_timeout, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not ended.done():
            self._watch = asyncio.ensure_future(self._watch_end(ended))
            self.report(m.KernelReady({}))
            return
        ready.cancel()
        late = not ended.done()
        await provisioner.kill()
        await ended
        status, said = provisioner.exit_status, self._log_tail()
        await self._bury()
        if self._killed:
            self.report(m.KernelGone(status))
            return
        why = f"was not ready after {self._start_timeout:g} s" if late else f"ended at once, with status {status}"
        self.report(m.KernelStartFailed(f"kernel {kernel!r} {why}. It wrote: {said or '(nothing)'}"))

    async def adopt(self, session: SessionRecord, *, ready: bool) -> None:
        kernel_id = _kernel_id(session)
        km, _, _ = self._manager.pre_start_kernel(session.kernel, {"kernel_id": kernel_id})
        km.kernel_id = kernel_id
        km.connection_file = session.connection_file or km.connection_file
        try:
            spec = km.kernel_spec
        except NoSuchKernel:  # not installed any more, and not needed for a kernel that runs
            spec = km._kernel_spec = KernelSpec()
        provisioner = km.provisioner = BrokerProvisioner(kernel_id=kernel_id, kernel_spec=spec, parent=km)
        reachable = True
        try:
            km.load_connection_file()
        except (OSError, ValueError):
            reachable = False
        self._km = km
        alive = provisioner.adopt(session.kernel_pid, session.kernel_pid_created, km.get_connection_info())
        if not (alive and reachable):
            await provisioner.kill()
            await self._bury()
            self.report(m.KernelGone(None))
            return
        km.ready.set_result(None)
        self._manager._kernels[kernel_id] = km
        self._take(km)
        if not ready:
            await self._get_ready(session.kernel)
            return
        self._watch = asyncio.ensure_future(self._watch_end(asyncio.ensure_future(provisioner.ended())))
        self.report(m.KernelReady(session.promises, adopted=True))

    async def kill(self, *, politely: bool) -> None:
        self._killed = True
        if self._km is None:
            return
        provisioner = self._provisioner
        if politely and self._link:
            self._link.control.send(self._pack("shutdown_request", {"restart": False}))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(provisioner.ended(), POLITE)
        await provisioner.kill()

    async def leave(self) -> None:
        if self._watch:
            self._watch.cancel()
        if self._link:
            self._link.close()

    def _take(self, km: KernelManager) -> None:
        # Unset, the file would go with this process, and the kernel could not be found again.
        km._connection_file_written = False
        self._km = km
        self._probes.clear()
        self._link = _Link(km, self._on_iopub, self._on_shell, self._on_stdin)

    @property
    def _provisioner(self) -> BrokerProvisioner:
        assert self._km is not None
        provisioner = self._km.provisioner
        assert isinstance(provisioner, BrokerProvisioner), "a broker's manager makes no other"
        return provisioner

    async def _until_ready(self) -> None:
        """Wait until the kernel answers on shell and is heard on IOPub (a subscription takes a moment to arrive)."""
        assert self._link is not None
        while True:
            self._answered.clear()
            probe = self._send_probe(None, MAIN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NUDGE):
                    while not probe.replied:
                        await self._answered.wait()
                        self._answered.clear()
            if probe.replied and self._link.heard:
                self._probes.clear()
                return

    async def _watch_end(self, ended: asyncio.Future[None]) -> None:
        await ended
        assert self._link is not None
        await self._link.last_words()
        status = self._provisioner.exit_status
        await self._bury()
        self.report(m.KernelGone(status))

    async def _bury(self) -> None:
        """Remove what a dead kernel leaves behind."""
        km, link, provisioner = self._km, self._link, self._provisioner
        self._km = self._link = None
        assert km is not None
        if link:
            link.close()
        with contextlib.suppress(KeyError):
            self._manager.remove_kernel(km.kernel_id)
        await provisioner.wait()
        with contextlib.suppress(OSError):
            os.remove(provisioner.log_file)
        await ensure_async(km.cleanup_resources())
        with contextlib.suppress(OSError):
            os.remove(km.connection_file)

    def _log_tail(self) -> str:
        try:
            with open(self._provisioner.log_file, errors="replace") as file:
                return file.read()[-LOG_TAIL:].strip()
        except OSError:
            return ""

    # To the kernel

    def execute(self, execution_id: str, code: str, lane: str) -> None:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": True,
            # Nothing of ours is queued in the kernel; what a person has queued there must not be aborted.
            "stop_on_error": False,
        }
        self._send_shell("execute_request", content, execution_id, lane)

    def answer(self, execution_id: str, value: str | None) -> None:
        if self._link:
            self._link.stdin.send(self._pack("input_reply", {"value": EOF if value is None else value}))

    async def interrupt(self, execution_id: str, lane: str) -> None:
        if self._km is None or self._link is None:
            return
        spec = self._km.kernel_spec
        if spec and spec.interrupt_mode == "message":
            self._link.control.send(self._pack("interrupt_request", {}))
        else:
            await self._provisioner.send_signal(signal.SIGINT)
        # An event loop that waits in a selector does not see the interrupt before something else wakes it.
        self.probe(execution_id, lane)

    def probe(self, execution_id: str, lane: str) -> None:
        self._send_probe(execution_id, lane)

    def _send_probe(self, execution_id: str | None, lane: str) -> _Probe:
        probe_id = f"probe-{uuid.uuid4().hex}"
        probe = self._probes[probe_id] = _Probe(execution_id)
        self._send_shell("kernel_info_request", {}, probe_id, lane)
        return probe

    def _send_shell(self, msg_type: str, content: dict[str, Any], msg_id: str, lane: str) -> None:
        if self._link:
            self._link.shell.send(self._pack(msg_type, content, msg_id, lane))

    def _pack(self, msg_type: str, content: dict[str, Any], msg_id: str | None = None, lane: str = MAIN) -> list[bytes]:
        assert self._link is not None
        session = self._link.session
        header = msg_header(msg_id or uuid.uuid4().hex, msg_type, session.username, session.session)
        if lane != MAIN:
            header["subshell_id"] = lane
        parts = [msgspec.json.encode(part) for part in (header, {}, {}, content)]
        return [DELIMITER, session.sign(parts), *parts]

    # From the kernel

    def _read(self, frames: list[bytes]) -> Message | None:
        assert self._link is not None
        try:
            return unpack(frames, self._link.session)
        except InvalidMessage as error:
            log.warning("a message that the kernel cannot have sent was dropped: %s", error)
            return None

    def _on_iopub(self, frames: list[bytes]) -> None:
        if (message := self._read(frames)) is None or self._link is None:
            return
        self._link.heard = True
        msg_type, parent = message.header.msg_type, message.parent_id
        if msg_type == "status":
            if _status.decode(message.content).execution_state == "idle":
                if probe := self._probes.get(parent):
                    probe.idle = True
                    self._settle(parent, probe)
                else:
                    self.report(m.Idle(parent))
        elif msg_type not in ("iopub_welcome", "debug_event", "shutdown_reply"):
            self.report(m.Published(parent or None, msg_type, message.content, message.extra))

    def _on_shell(self, frames: list[bytes]) -> None:
        if (message := self._read(frames)) is None:
            return
        if message.header.msg_type == "execute_reply":
            reply = _reply.decode(message.content)
            error = None
            if reply.status == "error":
                error = {"ename": reply.ename, "evalue": reply.evalue, "traceback": reply.traceback}
            self.report(m.Replied(message.parent_id, reply.status, error, reply.execution_count))
        elif probe := self._probes.get(message.parent_id):
            probe.replied = True
            self._answered.set()
            self._settle(message.parent_id, probe)

    def _settle(self, probe_id: str, probe: _Probe) -> None:
        if probe.replied and probe.idle and probe.execution_id is not None:
            del self._probes[probe_id]
            self.report(m.ProbeAnswered(probe.execution_id))

    def _on_stdin(self, frames: list[bytes]) -> None:
        if (message := self._read(frames)) is not None and message.header.msg_type == "input_request":
            # What was printed before the prompt has left the kernel before it, but over another socket.
            asyncio.get_running_loop().call_later(OVERTAKING, self._prompted, message)

    def _prompted(self, message: Message) -> None:
        if self._link:
            self._link.iopub.drain()
            asked = _prompt.decode(message.content)
            self.report(m.Prompted(message.parent_id, asked.prompt, asked.password))


def _kernel_id(session: SessionRecord) -> str:
    """The id of all a session's kernels. It follows from the session's, so one that nobody wrote down can be found."""
    return session.kernel_id or str(uuid.uuid5(uuid.NAMESPACE_OID, session.session_id))


class _Link:
    """The sockets to one kernel process."""

    def __init__(self, km: KernelManager, on_iopub: Any, on_shell: Any, on_stdin: Any) -> None:
        self._km = km
        identity = f"broker-{km.kernel_id}"
        self.session = JupyterSession(key=km.session.key, session=identity, digest_history_size=0)
        self.heard = False
        """Whether anything came over IOPub yet."""
        self._silent = asyncio.Event()
        # The manager's context makes sockets for zmq.asyncio, which read behind one's back.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(km.context)
        iopub = self._connect(zmq.SUB, "iopub")
        monitor = iopub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._monitor = Channel(monitor, lambda _: self._silent.set())
        self._iopub_socket = iopub
        self.iopub = Channel(iopub, on_iopub)
        self.shell = Channel(self._connect(zmq.DEALER, "shell"), on_shell)
        self.stdin = Channel(self._connect(zmq.DEALER, "stdin"), on_stdin)
        self.control = Channel(self._connect(zmq.DEALER, "control"), None)

    def _connect(self, kind: int, channel: str) -> zmq.Socket[bytes]:
        km = self._km
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.reconnect_ivl = 10
        socket.set_hwm(0)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        else:
            socket.identity = self.session.bsession
        if km.curve_publickey:
            socket.curve_serverkey = km.curve_publickey
            socket.curve_publickey, socket.curve_secretkey = km.curve_publickey, km.curve_secretkey
        socket.connect(km._make_url(channel))
        return socket

    async def last_words(self) -> None:
        """Read what a process that is gone has still sent: all of it is there once its connection is seen to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._silent.wait(), LAST_WORDS)
        for channel in (self.iopub, self.shell, self.stdin):
            channel.drain()

    def close(self) -> None:
        self._iopub_socket.disable_monitor()
        for channel in (self._monitor, self.iopub, self.shell, self.stdin, self.control):
            channel.close()
