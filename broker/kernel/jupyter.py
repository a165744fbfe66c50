"""A kernel that jupyter_client starts: its life, what it is told, and what its words mean.

What it says is heard in :mod:`broker.kernel.ears`. A kernel of our own says everything through its outbox; any other
one over its sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import uuid
from typing import Any

import msgspec
from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_client.manager import KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from ..core import messages as m
from ..core.lanes import MAIN
from ..core.promises import INTERRUPTS_ONE
from ..core.records import SessionRecord
from .driver import KernelDriver, Report
from .ears import Ear, OutboxEar, Said, SocketEar
from .outbox import IOPUB, OWN, SHELL
from .pool import Pool, Ready
from .processes import bury, provisioner_of, start
from .provisioner import BrokerProvisioner
from .sockets import Sockets

log = logging.getLogger(__name__)

EOF = "\x04"
"""What makes ``input()`` raise EOFError (ipykernel)."""
NUDGE = 1.0
"""Seconds after which a kernel that has not answered yet is asked again."""
POLITE = 3.0
"""Seconds that a kernel has to shut down when it was asked to."""
LOG_TAIL = 4000
"""Characters of a kernel's stderr that go into an error."""


class _Reply(msgspec.Struct, frozen=True):
    status: str = ""
    ename: str | None = None
    evalue: str | None = None
    traceback: list[str] = []
    execution_count: int | None = None


class _Hello(msgspec.Struct, frozen=True):
    promises: dict[str, bool] = {}


class _Status(msgspec.Struct, frozen=True):
    execution_state: str = ""


class _Prompt(msgspec.Struct, frozen=True):
    prompt: str = ""
    password: bool = False


class _RollCall(msgspec.Struct, frozen=True):
    received: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    prompts: dict[str, _Prompt] = {}


_reply = msgspec.json.Decoder(_Reply)
_status = msgspec.json.Decoder(_Status)
_prompt = msgspec.json.Decoder(_Prompt)
_hello = msgspec.json.Decoder(_Hello)
_roll_call = msgspec.json.Decoder(_RollCall)


class _Probe(msgspec.Struct):
    execution_id: str | None
    replied: bool = False
    idle: bool = False


class JupyterDriver(KernelDriver):
    """See :class:`~broker.kernel.driver.KernelDriver`. ``start_timeout`` is in seconds."""

    def __init__(
        self,
        report: Report,
        manager: AsyncMultiKernelManager,
        *,
        start_timeout: float = 60.0,
        pool: Pool | None = None,
    ) -> None:
        super().__init__(report)
        self._pool = pool
        self._manager = manager
        self._start_timeout = start_timeout
        self._km: KernelManager | None = None
        self._sockets: Sockets | None = None
        self._ear: Ear | None = None
        self._promises: dict[str, bool] = {}
        self._prompts: dict[str, str] = {}
        """The id of each execution's last ``input_request``."""
        self._watch: asyncio.Task[None] | None = None
        self._killed = False
        self._probes: dict[str, _Probe] = {}
        self._answered = asyncio.Event()
        self._greeted = asyncio.Event()
        self._grave: OutboxEar | None = None
        """A dead kernel's, as long as not all of its outbox is in the journal."""

    # Life and death

    async def start(self, session: SessionRecord) -> None:
        self._killed = False
        # A kernel that others know by its id keeps it, and what a fresh interpreter is to read needs one.
        ready = None
        if self._pool and session.kernel_id is None and not session.env:
            ready = await self._pool.take(session.kernel, session.working_directory)
        try:
            km = ready.km if ready else await self._start(session)
        except Exception as error:  # whatever a kernelspec or a provisioner can fail with
            self.report(m.KernelStartFailed(f"kernel {session.kernel!r} could not be started: {error}"))
            return
        self._take(km, ready)
        provisioner = provisioner_of(km)
        self.report(m.KernelLaunched(km.kernel_id, provisioner.pid, provisioner.pid_created, km.connection_file))
        if ready:
            for said in ready.said:
                self._said(said)
        await self._get_ready(session.kernel)

    async def _start(self, session: SessionRecord) -> KernelManager:
        return await start(
            self._manager, session.kernel, kernel_id_of(session), cwd=session.working_directory, env=session.env
        )

    async def _get_ready(self, kernel: str) -> None:
        assert self._km is not None
        provisioner = provisioner_of(self._km)
        ended = asyncio.ensure_future(provisioner.ended())
        if self._killed:
            await provisioner.kill()
        ready = asyncio.ensure_future(self._until_ready())
        await asyncio.wait({ended, ready}, timeout=self._start_timeout, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not ended.done():
            self._watch = asyncio.ensure_future(self._watch_end(ended))
            self.report(m.KernelReady(self._promises))
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
        kernel_id = kernel_id_of(session)
        km, _, _ = self._manager.pre_start_kernel(session.kernel, {"kernel_id": kernel_id})
        km.kernel_id = kernel_id
        km.connection_file = session.connection_file or km.connection_file
        try:
            spec = km.kernel_spec
        except NoSuchKernel:  # not installed any more, and not needed for a kernel that runs
            spec = km._kernel_spec = KernelSpec()
        provisioner = km.provisioner = BrokerProvisioner(kernel_id=kernel_id, kernel_spec=spec, parent=km)
        # One that never got ready is read from its hello on; what was heard before, the session knows.
        provisioner.find_outbox(session.heard if ready else 0)
        promises = session.promises
        if provisioner.outbox is None:
            # Not the outbox itself proves any more what it promised.
            promises = {}
        reachable = True
        try:
            km.load_connection_file()
        except (OSError, ValueError):
            reachable = False
        self._km = km
        km._connection_file_written = False
        alive = provisioner.adopt(session.kernel_pid, session.kernel_pid_created, km.get_connection_info())
        if not (alive and reachable):
            await provisioner.kill()
            if provisioner.outbox is not None:
                self._ear = OutboxEar(provisioner.outbox, self._said)
                await self._ear.last_words()
            await self._bury()
            if promises != session.promises:
                self.report(m.KernelReady(promises, adopted=True))
            self.report(m.KernelGone(None))
            self._tend_grave()
            return
        km.ready.set_result(None)
        self._manager._kernels[kernel_id] = km
        self._take(km)
        if not ready:
            await self._get_ready(session.kernel)
            return
        self._promises = promises
        if isinstance(self._ear, OutboxEar):
            await self._ear.caught_up()
            self._send("control", "roll_call_request", {})
        elif isinstance(self._ear, SocketEar):
            # Else it might not be heard what answers the probes that follow. An ipykernel welcomes who has subscribed.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ear.heard.wait(), NUDGE)
        self._watch = asyncio.ensure_future(self._watch_end(asyncio.ensure_future(provisioner.ended())))
        self.report(m.KernelReady(promises, adopted=True))

    async def kill(self, *, politely: bool) -> None:
        self._killed = True
        if self._km is None:
            return
        provisioner = provisioner_of(self._km)
        if politely:
            self._send("control", "shutdown_request", {"restart": False})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(provisioner.ended(), POLITE)
        await provisioner.kill()

    async def leave(self) -> None:
        if self._watch:
            self._watch.cancel()
        self._stop_talking()
        if self._grave:
            self._grave.close()

    def digested(self, number: int) -> None:
        if self._ear:
            self._ear.digested(number)
        if self._grave:
            self._grave.digested(number)
            self._tend_grave()

    def _take(self, km: KernelManager, ready: Ready | None = None) -> None:
        self._km = km
        self._probes.clear()
        self._prompts.clear()
        self._promises = {}
        self._greeted.clear()
        outbox = provisioner_of(km).outbox
        self._sockets = ready.sockets if ready else Sockets(km)
        if ready:
            self._ear = ready.ear
            ready.ear.tell = self._said
        elif outbox is not None:
            self._ear = OutboxEar(outbox, self._said)
        else:
            self._ear = SocketEar(self._sockets, self._said)

    def _stop_talking(self) -> None:
        if self._ear:
            self._ear.close()
        if self._sockets:
            self._sockets.close()
        self._ear = self._sockets = None

    async def _until_ready(self) -> None:
        """Wait until the kernel says hello; or, where it is not our own, answers on shell and is heard on IOPub."""
        if isinstance(self._ear, OutboxEar):
            await self._greeted.wait()
        if isinstance(self._ear, OutboxEar):
            return
        assert isinstance(self._ear, SocketEar)
        while True:
            self._answered.clear()
            probe = self._send_probe(None, MAIN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NUDGE):
                    while not probe.replied:
                        await self._answered.wait()
                        self._answered.clear()
            if probe.replied and self._ear.heard.is_set():
                self._probes.clear()
                return

    def _is_stock(self) -> None:
        """The launcher found an ipykernel that it cannot extend, and runs it as it is."""
        assert self._ear is not None
        assert self._sockets is not None
        assert self._km is not None
        self._ear.close()
        provisioner_of(self._km).drop_outbox()
        self._ear = SocketEar(self._sockets, self._said)
        self._greeted.set()

    async def _watch_end(self, ended: asyncio.Future[None]) -> None:
        await ended
        assert self._ear is not None
        await self._ear.last_words()
        assert self._km is not None
        status = provisioner_of(self._km).exit_status
        await self._bury()
        self.report(m.KernelGone(status))
        self._tend_grave()

    async def _bury(self) -> None:
        """Remove what a dead kernel leaves behind; its outbox, once it is in the journal."""
        km, self._km = self._km, None
        assert km is not None
        if isinstance(self._ear, OutboxEar):
            self._grave, self._ear = self._ear, None
        self._stop_talking()
        await bury(self._manager, km)

    def _tend_grave(self) -> None:
        if self._grave and self._grave.all_digested:
            self._grave.close()
            self._grave.outbox.remove()
            self._grave = None

    def _log_tail(self) -> str:
        assert self._km is not None
        try:
            with open(provisioner_of(self._km).log_file, errors="replace") as file:
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
        self._send("shell", "execute_request", content, msg_id=execution_id, lane=lane)

    def answer(self, execution_id: str, value: str | None) -> None:
        content = {"value": EOF if value is None else value}
        self._send("stdin", "input_reply", content, parent_id=self._prompts.get(execution_id, execution_id))

    async def interrupt(self, execution_id: str, lane: str) -> None:
        if self._km is None:
            return
        if self._promises.get(INTERRUPTS_ONE):
            self._send("control", "interrupt_request", {"execution_id": execution_id})
            return
        spec = self._km.kernel_spec
        if spec and spec.interrupt_mode == "message":
            self._send("control", "interrupt_request", {})
        else:
            await provisioner_of(self._km).send_signal(signal.SIGINT)
        # An event loop that waits in a selector does not see the interrupt before something else wakes it.
        self.probe(execution_id, lane)

    def probe(self, execution_id: str, lane: str) -> None:
        self._send_probe(execution_id, lane)

    def _send_probe(self, execution_id: str | None, lane: str) -> _Probe:
        probe_id = f"probe-{uuid.uuid4().hex}"
        probe = self._probes[probe_id] = _Probe(execution_id)
        self._send("shell", "kernel_info_request", {}, msg_id=probe_id, lane=lane)
        return probe

    def _send(self, channel: str, msg_type: str, content: dict[str, Any], **options: Any) -> None:
        if self._sockets:
            self._sockets.send(channel, msg_type, content, **options)

    # From the kernel

    def _said(self, said: Said) -> bool:
        """Report what the kernel said, if it says anything to a session."""
        try:
            input = self._meaning(said)
        except msgspec.DecodeError as error:
            # Any code in a kernel can send it. What comes after it must still be heard.
            log.warning("a message of type %r says nothing, for it is not as it must be: %s", said.msg_type, error)
            return False
        if input is not None:
            self.report(input)
        return input is not None

    def _meaning(self, said: Said) -> m.Input | None:
        channel = said.channel
        if channel == IOPUB:
            return self._published(said)
        if channel == SHELL:
            return self._replied(said)
        if channel == OWN:
            return self._own(said)
        if said.msg_type != "input_request":
            return None
        asked = _prompt.decode(said.content)
        self._prompts[said.parent_id] = said.msg_id
        return m.Prompted(said.parent_id, asked.prompt, asked.password, request_id=said.msg_id, number=said.number)

    def _published(self, said: Said) -> m.Input | None:
        msg_type, parent = said.msg_type, said.parent_id
        if msg_type == "status":
            if _status.decode(said.content).execution_state == "idle":
                if probe := self._probes.get(parent):
                    probe.idle = True
                    return self._settled(parent, probe, said.number)
                return m.Idle(parent, number=said.number)
        elif msg_type not in ("iopub_welcome", "debug_event", "shutdown_reply"):
            return m.Published(parent or None, msg_type, said.content, said.extra, number=said.number)
        return None

    def _replied(self, said: Said) -> m.Input | None:
        if said.msg_type == "execute_reply":
            reply = _reply.decode(said.content)
            error = None
            if reply.status == "error":
                error = {"ename": reply.ename, "evalue": reply.evalue, "traceback": reply.traceback}
            return m.Replied(said.parent_id, reply.status, error, reply.execution_count, number=said.number)
        if probe := self._probes.get(said.parent_id):
            probe.replied = True
            self._answered.set()
            return self._settled(said.parent_id, probe, said.number)
        return None

    def _settled(self, probe_id: str, probe: _Probe, number: int) -> m.Input | None:
        if not (probe.replied and probe.idle and probe.execution_id is not None):
            return None
        del self._probes[probe_id]
        return m.ProbeAnswered(probe.execution_id, number=number)

    def _own(self, said: Said) -> m.Input | None:
        if said.msg_type == "hello":
            self._promises = _hello.decode(said.content).promises
            self._greeted.set()
        elif said.msg_type == "stock":
            self._is_stock()
        elif said.msg_type == "roll_call":
            call = _roll_call.decode(said.content)
            prompts = {id: (each.prompt, each.password) for id, each in call.prompts.items()}
            return m.RollCall(call.received | call.running, prompts, number=said.number)
        return None


def kernel_id_of(session: SessionRecord) -> str:
    """The id of all a session's kernels. It follows from the session's, so one that nobody wrote down can be found."""
    return session.kernel_id or str(uuid.uuid5(uuid.NAMESPACE_OID, session.session_id))
