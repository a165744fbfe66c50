"""Notebooks as files: which one is a session's, and writing it so that nobody ever sees half of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .merging import Notebook, is_ours

LONGEST_NAME = 120
"""Bytes of a file's name that a session's name may take. 255 is the limit of most file systems, and there is more."""
ATTEMPTS = 20
"""How often a notebook is merged anew because somebody else wrote it meanwhile."""

_SESSION_ID = re.compile(rb'"session_id": ?"([^"]*)"')
_SPLIT = ("text/", "application/javascript", "image/svg+xml")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]+')


class Signature(NamedTuple):
    """By which it is seen that a file was written by somebody."""

    inode: int
    modified: int
    size: int


class Unreadable(Exception):
    """It is no notebook of this session, or is just being written. The message says which file."""


class Busy(Exception):
    """It is written by somebody else, again and again."""


def file_name(session_name: str) -> str:
    """A session's name as the name of a file, without its suffix: nothing in it leads anywhere else."""
    text = unicodedata.normalize("NFC", session_name).encode(errors="replace").decode()
    text = _FORBIDDEN.sub("_", text).strip(" .")
    text = text.encode()[:LONGEST_NAME].decode(errors="ignore").strip(" .")
    return text or "session"


def candidates(session_name: str, session_id: str) -> Iterator[str]:
    """The names that its file may have, the best first. The first may be that of another session too."""
    name = file_name(session_name)
    yield f"{name}.ipynb"
    for number in itertools.count(1):
        yield f"{name} ({session_id}{f' {number}' if number > 1 else ''}).ipynb"


def survey(folder: Path) -> dict[str, list[Path]]:
    """Which files of a folder might be whose: those that have a session's id in them."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.ipynb")):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                for id in set(_SESSION_ID.findall(path.read_bytes())):
                    found.setdefault(id.decode(), []).append(path)
    return found


def find(
    session_name: str, session_id: str, surveyed: dict[str, list[Path]], known: Signature | None = None
) -> Path | None:
    """A session's notebook, also where a person has renamed it; None if there is none.

    ``known``: what it was when it was last looked at.
    """
    names = list(itertools.islice(candidates(session_name, session_id), 3))

    def order(path: Path) -> tuple[bool, bool]:
        """A copy that a person has made says the same. The file that was ours is, or that with the name we gave."""
        now = signature(path) if known else None
        return now is None or known is None or now.inode != known.inode, path.name not in names

    for path in sorted(surveyed.get(session_id, ()), key=order):
        with contextlib.suppress(Unreadable, OSError):
            read(path, session_id)
            return path
    return None


def create(folder: Path, session_name: str, session_id: str, notebook: Notebook) -> Path:
    """Write a session's notebook for the first time, under a name that no file has."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = _write(folder, session_id, notebook, mode=0o600)
    try:
        for name in candidates(session_name, session_id):
            with contextlib.suppress(FileExistsError):
                # A link, for unlike a renaming it does not replace what another has just put there.
                os.link(temporary, folder / name)
                return folder / name
    finally:
        temporary.unlink(missing_ok=True)
    raise AssertionError("there are always more names")


def read(path: Path, session_id: str) -> tuple[Notebook, Signature]:
    """A session's notebook.

    Raises:
        Unreadable: see there.
        FileNotFoundError: it is gone.
    """
    with path.open("rb") as file:
        before = _signature(os.fstat(file.fileno()))
        data = file.read()
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} is no notebook: {error}") from None
    if not is_ours(notebook, session_id):
        raise Unreadable(f"{path} is not the notebook of session {session_id}")
    return notebook, before


def update(path: Path, session_id: str, change: Callable[[Notebook], bool]) -> tuple[Signature, Signature]:
    """Let ``change`` change a notebook, unless it returns False. What others write meanwhile is kept.

    Returns by what the notebook is known that was changed, and by what the changed one.

    Raises:
        Unreadable, FileNotFoundError: see :func:`read`.
        Busy: see there.
    """
    for _ in range(ATTEMPTS):
        notebook, before = read(path, session_id)
        if not change(notebook):
            return before, before
        temporary = _write(path.parent, session_id, notebook, mode=path.stat().st_mode & 0o777)
        replaced = path.with_name(f".{session_id}.old")
        try:
            replaced.unlink(missing_ok=True)
            os.link(path, replaced)
            if signature(replaced) == before:
                after = _signature(temporary.lstat())
                temporary.replace(path)
                if signature(replaced) == before:
                    return before, after
                # Somebody has begun to save it in just that moment, into the file that was replaced.
                replaced.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
            replaced.unlink(missing_ok=True)
    raise Busy(f"{path} is written by somebody else all the time")


def signature(path: Path) -> Signature | None:
    """None if it is gone."""
    try:
        return _signature(path.lstat())
    except FileNotFoundError:
        return None


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_ino, status.st_mtime_ns, status.st_size)


def _write(folder: Path, session_id: str, notebook: Notebook, *, mode: int) -> Path:
    """A hidden file beside those that are seen."""
    temporary = folder / f".{session_id}.tmp"
    _write_whole(temporary, encode(notebook), mode)
    return temporary


def replace(path: Path, data: bytes) -> None:
    """Write a file of our own, at once."""
    temporary = path.with_name(path.name + ".tmp")
    _write_whole(temporary, data, 0o600)
    temporary.replace(path)


def _write_whole(path: Path, data: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        # A person's cells are in it too, and are nowhere else.
        os.fdatasync(descriptor)


def encode(notebook: Notebook) -> bytes:
    """As nbformat writes it, so that a notebook that nothing was done to stays as it is when JupyterLab saves it."""
    lines = {**notebook, "cells": [_in_lines(cell) for cell in notebook["cells"]]}
    text = json.dumps(lines, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    return text.encode(errors="replace")


def _in_lines(cell: dict[str, Any]) -> dict[str, Any]:
    cell = dict(cell)
    if isinstance(cell.get("source"), str):
        cell["source"] = cell["source"].splitlines(keepends=True)
    if isinstance(cell.get("outputs"), list):
        cell["outputs"] = [_output_in_lines(output) for output in cell["outputs"]]
    return cell


def _output_in_lines(output: Any) -> Any:
    match output:
        case {"output_type": "stream", "text": str(text)}:
            return {**output, "text": text.splitlines(keepends=True)}
        case {"data": {**data}}:
            return {**output, "data": {mime: _value_in_lines(mime, value) for mime, value in data.items()}}
    return output


def _value_in_lines(mime: object, value: Any) -> Any:
    return value.splitlines(keepends=True) if isinstance(value, str) and str(mime).startswith(_SPLIT) else value
