"""Following an execution at a terminal: show what it prints, answer what it asks, leave when told to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from contextlib import aclosing

from ..client import BrokerError, Client, Event, NotWaiting, StdinClosed
from .answers import Answers
from .command import DETACHED, DONE, FAILED
from .elapsed import ElapsedLine
from .rendering import Renderer

SECOND_PRESS = 2.0
"""Seconds after Ctrl-C in which another one interrupts the code."""
ASKS_NOTHING_MORE = frozenset({"input_reply", "execution_finished"})


class Watch:
    """One execution, one terminal. ``answers`` is where its prompts are answered from; None leaves them to others."""

    def __init__(self, client: Client, execution_id: str, answers: Answers | None) -> None:
        self._client = client
        self._id = execution_id
        self._answers = answers
        self._renderer = Renderer(sys.stdout, sys.stderr)
        self._elapsed = ElapsedLine(self._may_show_elapsed, lambda: self._doing)
        self._doing = "queued"
        self._prompting: asyncio.Task[None] | None = None
        self._answered_here = False
        self._interrupted = asyncio.Event()
        self._leaving = False

    async def follow(self, wait: float | None = None) -> int:
        """Show everything from the start, then live, until it ends or is left. The result is the exit status.

        ``wait``: leave it after so many seconds; None stays until it ends.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupted.set)
        ticker = asyncio.create_task(self._elapsed.keep())
        reading = asyncio.create_task(self._show_all())
        leaving = asyncio.create_task(self._leave_when_told())
        try:
            await asyncio.wait({reading, leaving}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            if leaving.done():
                leaving.result()
        except BrokenPipeError:
            with contextlib.suppress(OSError):
                print(
                    f"nobody reads the output any more; it runs on. Come back with: {self._way_back}", file=sys.stderr
                )
            raise
        finally:
            await _cancel(reading, leaving, ticker, self._prompting)
            self._elapsed.erase()
            loop.remove_signal_handler(signal.SIGINT)
        self._renderer.note(f"detached; it runs on. Come back with: {self._way_back}")
        return DETACHED

    @property
    def _way_back(self) -> str:
        return f"jupyter broker attach {self._id}"

    async def _show_all(self) -> int:
        async with aclosing(self._client.stream(self._id)) as events:
            async for event in events:
                await self._show(event)
                if event.type == "execution_finished":
                    return DONE if event.data.get("state") == "completed" else FAILED
        return FAILED

    async def _show(self, event: Event) -> None:
        if event.type in ASKS_NOTHING_MORE:
            await _cancel(self._prompting)
            self._prompting = None
        self._elapsed.output_comes()
        self._renderer.show(event, answered_here=self._answered_here)
        if event.type == "execution_started":
            self._doing = "running"
            self._elapsed.restart()
        elif event.type == "input_reply":
            self._answered_here = False
        elif event.type == "input_request":
            self._prompting = asyncio.create_task(self._answer(event))

    async def _answer(self, prompt: Event) -> None:
        try:
            if not await self._is_open(prompt):
                return
            if self._answers is None:
                self._renderer.note(f"it asks for input. Answer with: jupyter broker stdin {self._id} TEXT")
                return
            password = bool(prompt.data.get("password"))
            line = await self._answers.read(password=password)
            self._answered_here = True
            if self._answers.is_terminal:
                if password or line is None:
                    # The terminal did not echo the end of the line.
                    print(flush=True)
                self._renderer.line_was_ended()
            await self._client.send_stdin(self._id, **({"eof": True} if line is None else {"data": line}))
        except (NotWaiting, StdinClosed) as error:
            self._renderer.note(str(error))
        except BrokerError as error:
            self._answered_here = False
            self._renderer.note(f"the answer may not have arrived: {error}")

    async def _is_open(self, prompt: Event) -> bool:
        """Whether nobody has answered a prompt yet: it may be from long ago."""
        after = prompt.seq
        while True:
            page = await self._client.get_async_log(self._id, after=after)
            if any(event.type in ASKS_NOTHING_MORE for event in page.events):
                return False
            if page.eof:
                return True
            after = page.seq

    async def _leave_when_told(self) -> None:
        """Return after one Ctrl-C; after a second one interrupt the code, and return after a third."""
        await self._interrupted.wait()
        self._interrupted.clear()
        self._elapsed.erase()
        self._leaving = True
        self._renderer.note("detaching; press Ctrl-C again to interrupt the code instead")
        try:
            await asyncio.wait_for(self._interrupted.wait(), SECOND_PRESS)
        except TimeoutError:
            return
        self._interrupted.clear()
        self._renderer.note("interrupting; Ctrl-C detaches")
        interrupting = asyncio.create_task(self._client.interrupt(self._id))
        pressed = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({interrupting, pressed}, return_when=asyncio.FIRST_COMPLETED)
            if interrupting.done() and not interrupting.result().ended:
                self._renderer.note(f"it goes on; end it, with its kernel, by: jupyter broker kill {self._id}")
            await pressed
        finally:
            await _cancel(interrupting, pressed)

    def _may_show_elapsed(self) -> bool:
        return self._renderer.at_line_start and self._prompting is None and not self._leaving


async def _cancel(*tasks: asyncio.Task[object] | asyncio.Task[None] | None) -> None:
    for task in tasks:
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
