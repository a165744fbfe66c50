"""What all commands share: their options, how they find the broker, and how they fail."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from jupyter_core.application import base_aliases, base_flags

from ..client import BrokerError, Client, ConnectionFailed, NoBroker, Unauthorized
from ..discovery import DiscoveryError
from .base import BaseApp

DONE = 0
FAILED = 1
UNUSABLE = 2
"""The exit status when a command cannot even begin: wrong arguments, or no broker."""
DETACHED = 3
"""The exit status of a command that left a running execution behind."""

_ALIASES: dict[Any, Any] = {
    "data-dir": "BaseApp.broker_data_dir",
    "config": base_aliases["config"],
    "log-level": base_aliases["log-level"],
}
_FLAGS: dict[Any, Any] = {"debug": base_flags["debug"]}


class UsageError(Exception):
    """The arguments make no sense. The message says which do."""


class NotFound(Exception):
    """What the arguments name is not there, or is several things. The message says what is."""


class Command(BaseApp):
    """A command that talks to a broker."""

    arguments: str = ""
    """The positional arguments, as the help shows them."""

    aliases = _ALIASES
    flags = _FLAGS

    def connect(self) -> Client:
        """A client for the broker that is meant, to be entered with ``async with``."""
        return Client.connect(data_dir=self.data_dir_given)

    async def run(self) -> int:
        """Do what the command is for. Returns the exit status."""
        raise NotImplementedError

    def start(self) -> None:
        """Run the command, and leave the process with its exit status."""
        super().start()
        # Python has no stream for a descriptor that was closed when it started (`>&-`).
        sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            # A kernel prints what it likes; a terminal that cannot show a character is no reason to stop.
            getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
        self.exit(self._run_to_status(self.run()))

    def _run_to_status(self, running: Coroutine[Any, Any, int]) -> int:
        try:
            status = asyncio.run(running)
            sys.stdout.flush()
        except UsageError as error:
            return self._fail(f"{error}\nusage: {self.title} {self.arguments}\nmore: {self.title} --help", UNUSABLE)
        except (NoBroker, Unauthorized) as error:
            return self._fail(str(error), UNUSABLE)
        except ConnectionFailed as error:
            return self._fail(f"{error}; what was running runs on", UNUSABLE)
        except (BrokerError, DiscoveryError, NotFound, OSError) as error:
            if isinstance(error, BrokenPipeError):
                return _reader_gone()
            return self._fail(str(error), FAILED)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        return status

    def _fail(self, message: str, status: int) -> int:
        print(f"{self.title}: {message}", file=sys.stderr)
        return status

    def emit_description(self) -> Any:
        """The help's first lines, headed by how the command is called."""
        yield f"{self.title} [OPTIONS] {self.arguments}".strip()
        yield ""
        yield from super().emit_description()

    def _find_subcommand(self, name: str) -> str:
        # JupyterApp would look for a program of that name in the path; here it is an argument.
        return ""

    def arguments_given(self, least: int, most: int) -> list[str]:
        """The positional arguments.

        Raises:
            UsageError: there are too few or too many.
        """
        if len(self.extra_args) < least:
            raise UsageError("an argument is missing")
        if len(self.extra_args) > most:
            raise UsageError(f"one argument too many: {self.extra_args[most]!r}")
        return list(self.extra_args)


def _reader_gone() -> int:
    """End as a process does whose output nobody reads any more (`... | head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
