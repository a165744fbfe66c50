"""Writes one session's notebook: reads what is there, finds out what it lacks, and puts that beside the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..core.records import ExecutionRecord, SessionRecord
from ..service import Broker
from . import files
from .book import Book
from .contents import Contents
from .merging import Notebook, Wanted, apply, complete, is_ours, merge, wanted
from .shared import SharedDocuments, SharedNotebook

log = logging.getLogger(__name__)

PATIENCE = 150.0
"""Seconds after the end of another client's execution in which it may turn out to be a cell of the notebook itself,
once that is saved. JupyterLab saves every 120."""
RETRY = 1.0
"""Seconds after which what could not be written is tried again."""
FAILURES = 5
"""After so many times in a row a file that cannot be read is taken to be something else by now."""

LanguageOf = Callable[[SessionRecord], Awaitable[dict[str, Any] | None]]
"""What a session's kernel says of its language (``language_info``); None if that is not known."""


class Writer:
    """Writes all notebooks of a folder. ``relative`` says by what path a server knows a file."""

    def __init__(
        self,
        broker: Broker,
        folder: Path,
        relative: Callable[[Path], str],
        shared: SharedDocuments | None,
        patience: float,
        language_of: LanguageOf,
    ) -> None:
        self._journal = broker.journal
        self._folder = folder
        self._relative = relative
        self._shared = shared
        self._patience = patience
        self._contents = Contents(broker)
        self._language_of = language_of
        self._surveyed: dict[str, list[Path]] = {}
        self.clients: dict[str, str] = {}
        """Which client another client's execution came from, until it is known what becomes of it."""
        self._at_home: set[tuple[str, str]] = set()
        """Sessions, and the clients that work in their notebooks."""

    async def survey(self) -> None:
        """See which files the folder has."""
        self._surveyed = await asyncio.to_thread(files.survey, self._folder)

    async def locate(self, book: Book) -> None:
        """Find the file of a session that may have had one; its path is None if there is none."""
        session = book.session
        known = book.signature
        book.path = await asyncio.to_thread(files.find, session.name, session.session_id, self._surveyed, known)

    def give_up_waiting(self, book: Book) -> None:
        """Let other clients' executions that have been waited for long enough be written."""
        for id in list(book.held):
            record = self._journal.execution(id)
            if record is None or not self._may_come(record):
                book.held.discard(id)
                book.dirty.add(id)

    def _may_come(self, record: ExecutionRecord) -> bool:
        return record.finished_at is None or time.time() - record.finished_at < self._patience

    async def write(self, book: Book) -> None:
        """Write what is new. What fails is logged, and tried again later."""
        loop = asyncio.get_running_loop()
        begun, dirty, complete = loop.time(), book.dirty | book.held, book.is_complete
        book.dirty, book.is_complete, book.urgent = set(), True, False
        try:
            await self._write(book, dirty if complete and book.path else None)
            book.failures = 0
        except (files.Unreadable, files.Busy, OSError) as error:
            await self._failed(book, error)
            book.dirty |= dirty
            book.is_complete = False
            book.not_before = loop.time() + RETRY
        book.written_at = loop.time()
        book.took = book.written_at - begun

    async def _failed(self, book: Book, error: Exception) -> None:
        if isinstance(error, FileNotFoundError):
            book.path = None
            await self.survey()
            return
        book.failures += 1
        if book.failures == FAILURES:
            log.warning("session %s: its notebook cannot be written: %s", book.session.session_id, error)
        if book.failures >= FAILURES and isinstance(error, files.Unreadable):
            book.path = None

    async def _write(self, book: Book, ids: set[str] | None) -> None:
        session = book.session
        records = await self._records(book, ids)
        if book.path is None:
            await self.locate(book)
        if book.path is None:
            empty = self._contents.empty(session)
            book.path = await asyncio.to_thread(files.create, self._folder, session.name, session.session_id, empty)
        document = await self._shared.open(self._relative(book.path)) if self._shared else None
        notebook, signature = await self._read(book, document)
        if ids is not None and document is None and signature != book.signature:
            # Somebody has saved it: what it had of the others may be gone.
            records = await self._records(book, None)
        want = self._wanted(book, notebook, records)
        # A file is not written for this alone: JupyterLab would ask the person about it.
        if want.stale or (document and book.passed_over):
            fresh = await self._contents.cells(want.stale)
            said = {"session_id": session.session_id, "name": session.name, "kernel_id": session.kernel_id}
            if document:
                document.apply(merge(self._ours(document, session.session_id), fresh, said, sorted(book.passed_over)))
                book.passed_over.clear()
            else:
                language = await self._language_of(session)

                def change(notebook: Notebook) -> bool:
                    changes = merge(notebook, fresh, said, sorted(book.passed_over))
                    apply(changes, notebook)
                    complete(notebook, language)
                    return bool(changes)

                before, after = await asyncio.to_thread(files.update, book.path, session.session_id, change)
                signature, book.is_complete = after, before == signature
                if after != before:
                    book.passed_over.clear()
        if document is None or ids is None:
            book.signature = signature
        book.running -= {record.execution_id for record in records}
        book.running |= {record.execution_id for record in records if not record.run.ended}

    async def show_running(self, book: Book) -> None:
        """Mark what runs in the notebook, if people have it open together."""
        if self._shared and book.path and book.running:
            document = await self._shared.open(self._relative(book.path))
            if document:
                document.show_running(book.running)

    async def _records(self, book: Book, ids: set[str] | None) -> list[ExecutionRecord]:
        """These executions, or all of the session, in order."""
        session = book.session
        if ids is None:
            return await self._journal.executions(session.owner, session.session_id, [])
        found = [record for id in ids if (record := self._journal.execution(id))]
        return sorted(found, key=lambda record: (record.created_at, record.execution_id))

    async def _read(self, book: Book, document: SharedNotebook | None) -> tuple[Notebook, files.Signature | None]:
        assert book.path is not None
        if document:
            return self._ours(document, book.session.session_id), files.signature(book.path)
        return await asyncio.to_thread(files.read, book.path, book.session.session_id)

    def _ours(self, document: SharedNotebook, session_id: str) -> Notebook:
        notebook = document.read()
        if not is_ours(notebook, session_id):
            raise files.Unreadable(f"the open document is not the notebook of session {session_id}")
        return notebook

    def _wanted(self, book: Book, notebook: Notebook, records: list[ExecutionRecord]) -> Wanted:
        session_id = book.session.session_id
        want = wanted(
            notebook,
            records,
            self._journal.code,
            may_come=self._may_come,
            came_from_here=lambda id: id in book.passed_over or (session_id, self.clients.get(id, "")) in self._at_home,
        )
        book.passed_over |= set(want.passed_over)
        book.held = {record.execution_id for record in want.held}
        for id in (*want.passed_over, *(record.execution_id for record in want.stale)):
            client = self.clients.pop(id, None)
            if client and id in want.passed_over:
                self._at_home.add((session_id, client))
        return want
