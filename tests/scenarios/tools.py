"""What several scenarios need: code that stays where it is until let go, cuts, and looks at the truth."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from ..running import PATIENCE, BrokerProcess, Wire

_numbers = itertools.count(1)


class Gate:
    """A file that code in a kernel waits for. So a test decides when that code goes on, and needs no sleep."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"gate-{next(_numbers)}"

    @property
    def shut(self) -> str:
        """A Python expression: whether it is still shut."""
        return f"not __import__('os').path.exists({str(self.path)!r})"

    @property
    def wait(self) -> str:
        """A Python statement: wait until it is open."""
        return f"while {self.shut}: __import__('time').sleep(0.02)\n"

    def open(self) -> None:
        self.path.touch()


def cut(wire: Wire) -> None:
    """Drop a client's connection as a crash does: no closing handshake, a reset in place of the end of the stream."""
    transport = wire.socket.transport
    reset(transport.get_extra_info("socket"))
    transport.abort()


def reset(sock: Any) -> None:
    """Have a socket's close send a reset (``socket(7)``, SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def printed(wire: Wire, execution_id: str, text: str) -> dict[str, Any]:
    """The execution, once it has printed ``text``."""
    return await wire.until(execution_id, lambda execution: text in execution["text"])


async def detached(wire: Wire, session: str, code: str) -> str:
    """Run code that first says "begun", let go of it, and return its id when it has said so."""
    execution = await wire.execute(code, session=session, wait=0)
    await printed(wire, execution["execution_id"], "begun\n")
    return str(execution["execution_id"])


async def started(wire: Wire, session: str) -> str:
    """The id of the one execution of a session that runs, once one does."""
    await true(lambda: _running(wire, session))
    (execution,) = await _running(wire, session)
    return str(execution["execution_id"])


async def _running(wire: Wire, session: str) -> list[dict[str, Any]]:
    listed = await wire.call("list_executions", session=session, state="running")
    return list(listed["executions"])


async def true(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds that no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not (await found if asyncio.iscoroutine(found := condition()) else found):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def set_marker(wire: Wire, session: str) -> None:
    """Leave a variable in the kernel by which :func:`marker_survives` knows it again."""
    assert (await wire.execute("marker = 'set before'", session=session, wait=None))["state"] == "completed"


async def marker_survives(wire: Wire, session: str) -> bool:
    execution = await wire.execute("print('marker' in globals())", session=session, wait=None)
    assert execution["state"] == "completed"
    return bool(execution["text"] == "True\n")


async def kernel_pid(wire: Wire, session: str) -> int:
    return int((await wire.call("get_session", session=session))["kernel_pid"])


async def stop_all(wire: Wire, session: str) -> None:
    """Kill all that a session runs, the last first."""
    listed = await wire.call("list_executions", session=session)
    for execution in reversed(listed["executions"]):
        if execution["finished_at"] is None:
            await wire.call("kill", execution_id=execution["execution_id"])


def gone(pid: int) -> bool:
    """Whether a process runs no more. One that nobody has reaped yet runs no more either."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def bytes_at_rest(broker: BrokerProcess) -> bytes:
    """Everything that a broker and its kernels have written: the journal with its write-ahead log, every log."""
    files = [Path(directory) / name for directory, _, names in os.walk(broker.root) for name in names]
    assert {"journal.sqlite", "journal.sqlite-wal", "broker.log"} <= {file.name for file in files}
    return b"\0".join(file.read_bytes() for file in files if file.is_file())
