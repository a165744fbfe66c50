"""``jupyter broker stop``: end the broker, and leave its kernels running or not."""

from __future__ import annotations

import contextlib
import sys
from inspect import cleandoc
from typing import Any

from traitlets import Bool

from .. import discovery
from ..client import BrokerError, Client, NoBroker, RequestFailed
from .command import DONE, FAILED, Command


class StopApp(Command):
    """End the broker."""

    name = "jupyter-broker-stop"
    description = """End the broker. Its kernels run on, and the next broker takes them back with all they do.

    It returns when the broker has ended.
    """
    examples = cleandoc("""
    jupyter broker stop
    jupyter broker stop --kernels     close all sessions first, so that no kernel is left
    """)

    kernels = Bool(False, help="Close all sessions first, so that their kernels end.").tag(config=True)
    flags: dict[Any, Any] = {
        "kernels": ({"StopApp": {"kernels": True}}, "Close all sessions first, so that their kernels end."),
    } | Command.flags

    async def run(self) -> int:
        """End it, wait until it has ended, and say what is left."""
        self.arguments_given(0, 0)
        info = discovery.read_info(self.data_dir_given)
        if info is None:
            raise NoBroker(f"no broker is running for {discovery.resolve_data_dir(self.data_dir_given)}")
        if info.in_server:
            print(
                f"the broker is part of the Jupyter Server at {info.url} (pid {info.pid}): stop that", file=sys.stderr
            )
            return FAILED
        left = await self._kernels_left()
        if not await discovery.end_broker(info):
            print(f"the broker (pid {info.pid}) was told to end, and still has not", file=sys.stderr)
            return FAILED
        print(f"the broker at {info.url} (pid {info.pid}) has ended; {left}")
        return DONE

    async def _kernels_left(self) -> str:
        """Close the sessions if so asked. In words: what will be left of the kernels."""
        try:
            async with self.connect() as client:
                if self.kernels:
                    await _close_all(client)
                count = sum(session.has_kernel for session in await client.list_sessions())
        except BrokerError as error:
            if self.kernels:
                raise
            return f"how many kernels run on is not known ({error})"
        if count == 0:
            return "no kernel is left"
        return f"{count} kernel{'s run' if count > 1 else ' runs'} on, for the next broker to take back"


async def _close_all(client: Client) -> None:
    for session in await client.list_sessions():
        # Somebody else may close it at the same time.
        with contextlib.suppress(RequestFailed):
            await client.close_session(session.session_id)
