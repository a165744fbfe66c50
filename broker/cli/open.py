"""``jupyter broker open``: the broker's page, in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import tempfile
import webbrowser
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from urllib.parse import quote

from jupyter_core.paths import jupyter_runtime_dir
from traitlets import Float

from ..client import NoBroker
from ..discovery import BrokerInfo, read_info
from .command import DONE, FAILED, Command
from .ids import resolve_execution


class OpenApp(Command):
    """Open the page."""

    name = "jupyter-broker-open"
    arguments = "[ID]"
    description = """Open the broker's page in a browser: sessions, live output, prompts, and what stops an execution.

    The browser gets the token from a file that only you can read, which is removed again, and keeps it for that tab. It
    is in no command line, and in no address that is sent or logged.
    """
    examples = cleandoc("""
    jupyter broker open               the page
    jupyter broker open 06f3k2        with this execution
    """)

    patience = Float(15.0, min=0, help="Seconds that the browser has to read the file.").tag(config=True)

    async def run(self) -> int:
        """Open it, and leave nothing behind."""
        arguments = self.arguments_given(0, 1)
        info = read_info(self.data_dir_given)
        if info is None:
            raise NoBroker("no broker is running; start one with `jupyter broker serve`")
        path = ""
        if arguments:
            async with self.connect() as client:
                path = f"&execution={quote(await resolve_execution(client, arguments[0]))}"
        with way_in(info, path) as file:
            if not await asyncio.to_thread(webbrowser.open, file.as_uri()):
                return self._fail(f"there is no browser to be had; open {info.url} and paste the token there", FAILED)
            print(f"opening {info.url}", flush=True)
            await asyncio.sleep(self.patience)
        return DONE


@contextlib.contextmanager
def way_in(info: BrokerInfo, rest: str = "") -> Iterator[Path]:
    """A file that sends a browser to the page with the token in the fragment, which browsers send nowhere."""
    # Not in the temporary directory, which some browsers that run in a container of their own do not see.
    directory = Path(jupyter_runtime_dir())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="broker-open-", suffix=".html", dir=directory)
    url = html.escape(f"{info.url}#token={quote(info.token, safe='')}{rest}")
    file = Path(name)
    try:
        with os.fdopen(descriptor, "w") as page:
            page.write(
                '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
                f'<meta http-equiv="refresh" content="0; url={url}"><title>Broker</title>'
            )
        yield file
    finally:
        file.unlink(missing_ok=True)
