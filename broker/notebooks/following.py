"""Follows the journal, and keeps each session's notebook as it says.

Replay and live are one. A cursor, kept in the folder, says up to which event all notebooks are written; what has a
later event is looked at, whether that was a moment ago or while no broker was there. What is to be written is found
out anew each time, from the notebook and the session's executions, so nothing hangs on having remembered it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..core.records import SessionRecord
from ..core.state import Run
from ..journal import EVERYTHING, touched
from ..service import Broker
from . import files
from .book import Book
from .shared import SharedDocuments
from .writing import PATIENCE, RETRY, LanguageOf, Writer

log = logging.getLogger(__name__)

SETTLE = 0.05
"""Seconds in which what comes together is taken together."""
LOOK = 2.0
"""Seconds between two looks at whether people have opened, saved, renamed or deleted a notebook."""
CURSOR = ".broker-cursor.json"


class Cursor(msgspec.Struct, frozen=True):
    """Up to which event the notebooks are written. Its time tells whether the journal is still the same."""

    seq: int = 0
    time: float | None = None


async def unknown(_: SessionRecord) -> None:
    """What is known of a kernel's language where nobody has asked it."""


class Notebooks:
    """The notebooks of a broker's sessions, in ``folder``.

    ``root`` is what paths are told relative to: a Jupyter Server's root directory; the folder itself if left out.
    ``shared`` are the documents open in that server. ``patience``: see :data:`~.writing.PATIENCE`.
    ``on_moved`` is called with a session's id when its :meth:`path_of` has become another. ``language_of``: see
    :data:`~.writing.LanguageOf`.
    """

    def __init__(
        self,
        broker: Broker,
        folder: Path,
        *,
        root: Path | None = None,
        shared: SharedDocuments | None = None,
        patience: float = PATIENCE,
        on_moved: Callable[[str], object] = lambda session_id: None,
        language_of: LanguageOf = unknown,
    ) -> None:
        self._broker = broker
        self._journal = broker.journal
        self._folder = Path(folder).expanduser().absolute()
        self._root = Path(root).expanduser().absolute() if root else self._folder
        self._on_moved = on_moved
        self._writer = Writer(broker, self._folder, self._relative, shared, patience, language_of)
        self._books: dict[str, Book] = {}
        self._told: dict[str, Path] = {}
        self._seen = 0
        self._saved = Cursor()
        self._looked_at = 0.0
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, once the broker has its sessions."""
        self._broker.notebooks = self
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Write what is in the journal by now, and end."""
        self._stopping.set()
        if self._task:
            await self._task

    def path_of(self, session_id: str) -> str | None:
        """Where an open session's notebook is, with ``/``; None while it is not written yet."""
        book = self._books.get(session_id)
        return self._relative(book.path) if book and book.path else None

    def came_from(self, execution_id: str, client: str) -> None:
        """Say which client an execution with ``origin: jupyter`` came from, where that is known.

        A client one of whose cells is found in a notebook works in that notebook, and so all its executions are of it.
        """
        self._writer.clients[execution_id] = client

    def _relative(self, path: Path) -> str:
        with contextlib.suppress(ValueError):
            return path.relative_to(self._root).as_posix()
        return str(path)

    # The loop

    async def _run(self) -> None:
        await self._begin()
        while True:
            last = self._stopping.is_set()
            try:
                await self._follow()
                await self._look(anyway=last)
                await self._write(anyway=last)
                if last:
                    await self._save_cursor()
                    return
            except Exception:
                log.exception("notebooks in %s: something went wrong", self._folder)
                if last:
                    return
                await asyncio.sleep(RETRY)
            self._tell()
            await self._wait()

    def _tell(self) -> None:
        """Say which notebooks are somewhere else than before."""
        paths = {id: book.path for id, book in self._books.items() if book.path}
        moved = [id for id, path in paths.items() if self._told.get(id) != path]
        self._told = paths
        for id in moved:
            self._on_moved(id)

    async def _begin(self) -> None:
        """See what is there."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            cursor = msgspec.json.decode((self._folder / CURSOR).read_bytes(), type=Cursor)
            if cursor.time == self._time_of(cursor.seq):
                self._saved = cursor
        self._seen = self._saved.seq
        await self._writer.survey()
        for session in self._journal.sessions():
            book = self._books[session.session_id] = Book(session)
            await self._writer.locate(book)
            book.is_complete = book.path is None

    async def _follow(self) -> None:
        """Note what has changed since the last time."""
        after, until = self._seen, self._journal.seq
        if after >= until:
            return
        for session_id, execution_id in await self._journal.in_thread(lambda c: touched(c, after, until)):
            book = self._books.get(session_id)
            if book is None or execution_id is None:
                session = self._journal.session(session_id)
                if session is None:
                    continue
                book = self._books.setdefault(session_id, Book(session))
                book.session = session
                book.dirty |= {execution_id} if execution_id else set()
                book.urgent = True
            elif record := self._journal.execution(execution_id):
                book.dirty.add(execution_id)
                book.urgent |= record.run is not Run.RUNNING or execution_id not in book.running
        self._seen = until

    async def _write(self, *, anyway: bool) -> None:
        """Write the notebooks for which it is time."""
        for book in list(self._books.values()):
            if book.is_pending and (anyway or book.due <= asyncio.get_running_loop().time()):
                await self._writer.write(book)
            if book.session.closed_at is not None and not book.is_pending and not book.held:
                del self._books[book.session.session_id]

    async def _look(self, *, anyway: bool) -> None:
        """See what people have done to the notebooks, and what is not awaited any longer."""
        now = asyncio.get_running_loop().time()
        if not anyway and now - self._looked_at < LOOK:
            return
        self._looked_at = now
        books = list(self._books.values())
        paths = [book.path for book in books]
        seen = await asyncio.to_thread(lambda: [path and files.signature(path) for path in paths])
        for book, signature in zip(books, seen, strict=True):
            if book.path is not None and signature != book.signature:
                if signature is None:
                    await self._writer.survey()
                    await self._writer.locate(book)
                # A notebook that was deleted is made again when there is something to write.
                book.is_complete = book.path is None
            self._writer.give_up_waiting(book)
            await self._writer.show_running(book)
        await self._save_cursor()

    async def _save_cursor(self) -> None:
        if any(book.is_pending or book.held for book in self._books.values()) or self._seen == self._saved.seq:
            return
        self._saved = Cursor(self._seen, self._time_of(self._seen))
        data = msgspec.json.encode(self._saved)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(files.replace, self._folder / CURSOR, data)

    async def _wait(self) -> None:
        """Until there is something to do."""
        now = asyncio.get_running_loop().time()
        due = [book.due - now for book in self._books.values() if book.is_pending]
        timeout = max(0, min([*due, LOOK])) if self._books or self._seen != self._saved.seq else None
        changed = asyncio.ensure_future(self._journal.changed(EVERYTHING, self._seen))
        stopping = asyncio.ensure_future(self._stopping.wait())
        done, others = await asyncio.wait((changed, stopping), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        if changed in done:
            await asyncio.sleep(SETTLE)

    def _time_of(self, seq: int) -> float | None:
        row = self._journal.here(lambda c: c.execute("SELECT time FROM events WHERE seq = ?", (seq,)).fetchone())
        return row[0] if row else None
