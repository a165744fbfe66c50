"""Our own Python kernel by itself, without a broker: what is sent to it, and what its outbox says."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

from broker.kernel.launcher import DIRECTORY
from broker.kernel.outbox import IOPUB, SHELL, STDIN, Outbox, Record

PATIENCE = 60.0


class OwnKernel:
    """A kernel process with an outbox. ``said`` is all that it has said so far, in order."""

    def __init__(self, **env: str) -> None:
        # Not pytest's tmp_path: the paths of Unix sockets must be short.
        self.root = Path(tempfile.mkdtemp(prefix="jk-"))
        self.outbox = Outbox.create(self.root / "outbox")
        self.said: list[Record] = []
        self._executions: list[str] = []
        self.connection_file, info = write_connection_file(
            str(self.root / "c.json"), transport="ipc", ip=str(self.root / "k"), key=uuid.uuid4().hex.encode()
        )
        self._session = Session(key=info["key"].encode() if isinstance(info["key"], str) else info["key"])
        self._context = zmq.Context()
        self._sockets = {}
        for channel in ("shell", "control", "stdin"):
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.identity = b"broker-test"
            socket.connect(f"ipc://{self.root}/k-{info[channel + '_port']}")
            self._sockets[channel] = socket
        assert DIRECTORY is not None
        self.log = (self.root / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-Xfrozen_modules=off", str(DIRECTORY / "launch.py"), "-f", self.connection_file],
            env={**os.environ, "JUPYTER_BROKER_OUTBOX": str(self.outbox.directory), **env},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.until(lambda: any(record.msg_type == "hello" for record in self.said))

    def send(self, channel: str, msg_type: str, content: dict[str, Any], lane: str = "main", **header: Any) -> str:
        message = self._session.msg(msg_type, content)
        message["header"].update({"msg_id": uuid.uuid4().hex, **header})
        if lane != "main":
            message["header"]["subshell_id"] = lane
        self._session.send(self._sockets[channel], message)
        return str(message["header"]["msg_id"])

    @property
    def is_idle(self) -> bool:
        """Whether all that was sent to be executed is over."""
        self.read()
        replied = {record.parent_id for record in self.said if record.channel == SHELL}
        return replied.issuperset(self._executions)

    def execute(self, code: str, lane: str = "main", **header: Any) -> str:
        content = {"code": code, "allow_stdin": True, "stop_on_error": False}
        self._executions.append(self.send("shell", "execute_request", content, lane, **header))
        return self._executions[-1]

    def run(self, code: str, lane: str = "main") -> dict[str, Any]:
        """Execute, wait until it is done, and return the reply's content."""
        return self.done(self.execute(code, lane))

    def interrupt(self, execution: str) -> None:
        self.send("control", "interrupt_request", {"execution_id": execution})

    def answer(self, execution: str, value: str) -> None:
        """Answer an execution's last prompt."""
        self.answer_to(self.of(execution, STDIN)[-1], value)

    def answer_to(self, asked: Record, value: str) -> None:
        message = self._session.msg("input_reply", {"value": value}, parent={"header": {"msg_id": asked.msg_id}})
        self._session.send(self._sockets["stdin"], message)

    def read(self) -> None:
        while records := self.outbox.read():
            self.said += records

    def until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Read on until something holds, and return it."""
        deadline = time.monotonic() + patience
        while True:
            self.outbox.hush()
            self.read()
            if value := condition():
                return value
            left = deadline - time.monotonic()
            assert left > 0, f"it never came true; it said {[(r.msg_type, r.content[:80]) for r in self.said[-20:]]}"
            select.select([self.outbox.wake], [], [], min(left, 1))

    def of(self, execution: str, channel: int = IOPUB) -> list[Record]:
        return [r for r in self.said if r.parent_id == execution and r.channel == channel]

    def done(self, execution: str) -> dict[str, Any]:
        def reply() -> Any:
            idle = any(r.msg_type == "status" and b"idle" in r.content for r in self.of(execution))
            replies = self.of(execution, SHELL)
            return idle and replies and json.loads(replies[0].content)

        content: dict[str, Any] = self.until(reply)
        return content

    def prompts(self, execution: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until an execution has asked so often, and return what."""
        self.until(lambda: len(self.of(execution, STDIN)) >= count)
        return [json.loads(r.content) for r in self.of(execution, STDIN)]

    def text(self, execution: str, name: str = "stdout") -> str:
        streams = [json.loads(r.content) for r in self.of(execution) if r.msg_type == "stream"]
        return "".join(stream["text"] for stream in streams if stream["name"] == name)

    def contents(self, execution: str, msg_type: str) -> list[dict[str, Any]]:
        return [json.loads(r.content) for r in self.of(execution) if r.msg_type == msg_type]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.outbox.close()
        self._context.destroy(linger=0)
        self.log.close()
        shutil.rmtree(self.root, ignore_errors=True)
