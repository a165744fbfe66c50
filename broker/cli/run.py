"""``jupyter broker run``: run code, and show what it prints."""

from __future__ import annotations

import asyncio
import os
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType
from traitlets import Bool, Float

from .. import discovery
from ..client import Client, UnknownSession
from .answers import Answers
from .base import Text
from .command import DONE, Command, UsageError
from .watch import Watch

DEFAULT_SESSION = "default"


class RunApp(Command):
    """Submit, then attach."""

    name = "jupyter-broker-run"
    arguments = "[FILE | -c CODE | -]"
    description = """Run code in a session's kernel, and show what it prints as it prints it.

    The code is a file's, an option's, or (`-`) what stdin has. What it asks for is asked here, or read from stdin.
    If no broker is running, one is started in the background; it ends by itself ten minutes after the last use.

    Ctrl-C leaves the code running and says how to come back; pressed twice, it interrupts the code. The exit status
    is 0 when the code completed, 1 when it raised, was interrupted or was lost, 2 when it could not be started, and
    3 when it was left running.
    """
    examples = cleandoc("""
    jupyter broker run -c 'print("hello")'
    jupyter broker run train.py --session=training       variables stay in the session's kernel
    jupyter broker run -c 'loss' --session=training
    jupyter broker run train.py --detach                 print its id, and leave
    jupyter broker run train.py --wait=30                leave after 30 seconds, if it still runs
    echo 'print(6 * 7)' | jupyter broker run -
    yes | jupyter broker run install.py                  answer what it asks
    """)

    code = Text(help="The code to run.").tag(config=True)
    session = Text(
        DEFAULT_SESSION, help="The session to run it in, by name or id; made if there is none of that name."
    ).tag(config=True)
    kernel = Text(help="The kernel of a new session; the default is Jupyter's.").tag(config=True)
    working_directory = Text(help="Where a new session's kernel runs; the default is here.").tag(config=True)
    label = Text(help="What `ps` shows it as; the default is the file's name.").tag(config=True)
    wait = Float(
        None, allow_none=True, min=0, help="Leave it running after so many seconds; the default is to stay."
    ).tag(config=True)
    detach = Bool(False, help="Print its id and leave at once.").tag(config=True)

    aliases: dict[Any, Any] = {
        "c": "RunApp.code",
        "session": "RunApp.session",
        "kernel": "RunApp.kernel",
        "working-directory": "RunApp.working_directory",
        "label": "RunApp.label",
        "wait": "RunApp.wait",
    } | Command.aliases
    flags: dict[Any, Any] = {
        "detach": ({"RunApp": {"detach": True}}, "Print its id and leave at once."),
    } | Command.flags

    async def run(self) -> int:
        """Start a broker if there is none, and run the code."""
        code, label = self._read_code()
        answers = self._answers()
        if discovery.read_info(self.data_dir_given) is None:
            await asyncio.to_thread(discovery.start_in_background, self.data_dir_given)
        async with self.connect() as client:
            execution = await client.execute(
                code,
                session=self.session,
                kernel=self.kernel or UNSET,
                working_directory=await self._directory(client),
                wait=0,
                label=label or UNSET,
            )
            if self.detach:
                print(execution.execution_id)
                return DONE
            return await Watch(client, execution.execution_id, answers).follow(self.wait)

    def _read_code(self) -> tuple[str, str]:
        """The code and its label."""
        given = "code" in self.cli_config.get(type(self).__name__, {})
        source = next(iter(self.arguments_given(0, 0 if given else 1)), None)
        if given:
            try:
                self.code.encode()
            except UnicodeEncodeError:
                raise UsageError("the code is not text in this locale's encoding; give it as a file in UTF-8") from None
            return self.code, self.label
        if source is None:
            raise UsageError("what should run? Give a file, -c CODE, or - for what stdin has")
        if source == "-":
            if sys.stdin is None:
                raise UsageError("there is no stdin to read code from")
            try:
                return sys.stdin.buffer.read().decode("utf-8-sig"), self.label
            except UnicodeDecodeError as error:
                raise UsageError(f"what stdin has is not UTF-8: {error}") from None
        try:
            return Path(source).read_text(encoding="utf-8-sig"), self.label or Path(source).name
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{source} cannot be read: {error}") from None

    def _answers(self) -> Answers | None:
        """Stdin, unless it is used up: the code was piped through it."""
        answers = Answers.from_stdin()
        used_up = self.extra_args == ["-"] and answers is not None and not answers.is_terminal
        return None if used_up else answers

    async def _directory(self, client: Client) -> str | UnsetType:
        """Where a new session's kernel is to run; nothing for a session that is there and runs somewhere already."""
        if self.working_directory:
            return _absolute(self.working_directory)
        try:
            await client.get_session(self.session)
        except UnknownSession:
            return os.getcwd()
        return UNSET


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())
