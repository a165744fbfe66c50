"""Whatever a session is called, its file is in the folder, and is its own."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from broker.notebooks import files


def notebook(session_id: str, **more: Any) -> dict[str, Any]:
    metadata = {"broker": {"session_id": session_id}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [], **more}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("work", "work"),
        ("../../x", "_.._x"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", "session"),
        (".hidden", "hidden"),
        ("a\x00b\nc", "a_b_c"),
        ("  padded. ", "padded"),
        ("what? *all*", "what_ _all_"),
        ("\N{GRINNING FACE} work", "\N{GRINNING FACE} work"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        ("\udce9", "_"),
    ],
)
def test_a_name_leads_nowhere_else(name: str, expected: str) -> None:
    assert files.file_name(name) == expected


@pytest.mark.parametrize("name", ["x" * 300, "é" * 200, "\N{GRINNING FACE}" * 200, "../" * 100])
def test_a_long_name_is_cut_where_a_character_ends(tmp_path: Path, name: str) -> None:
    for id in ("s-1", "s-2"):
        path = files.create(tmp_path, name, id, notebook(id))
        assert path.parent == tmp_path
        assert len(os.fsencode(path.name)) <= 255
        assert files.read(path, id)[0] == notebook(id)


def test_two_sessions_whose_names_become_one_have_a_file_each(tmp_path: Path) -> None:
    first = files.create(tmp_path, "a/b", "s-1", notebook("s-1"))
    second = files.create(tmp_path, "a:b", "s-2", notebook("s-2"))
    assert (first.name, second.name) == ("a_b.ipynb", "a_b (s-2).ipynb")
    surveyed = files.survey(tmp_path)
    assert files.find("a/b", "s-1", surveyed) == first
    assert files.find("a:b", "s-2", surveyed) == second


@pytest.mark.parametrize("content", [b"", b"not JSON", b"[]", json.dumps(notebook("s-other")).encode()])
def test_a_file_that_is_not_ours_is_never_written(tmp_path: Path, content: bytes) -> None:
    theirs = tmp_path / "work.ipynb"
    theirs.write_bytes(content)
    ours = files.create(tmp_path, "work", "s-1", notebook("s-1"))
    assert ours.name == "work (s-1).ipynb"
    assert files.find("work", "s-1", files.survey(tmp_path)) == ours
    with pytest.raises(files.Unreadable):
        files.update(theirs, "s-1", lambda _: True)
    assert theirs.read_bytes() == content


def test_a_link_with_the_name_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    (tmp_path / "work.ipynb").symlink_to(target)
    assert files.create(tmp_path, "work", "s-1", notebook("s-1")).name == "work (s-1).ipynb"
    assert target.read_bytes() == b"precious"


def test_a_renamed_notebook_is_found_and_a_copy_is_not_taken_for_it(tmp_path: Path) -> None:
    path = files.create(tmp_path, "work", "s-1", notebook("s-1"))
    (tmp_path / "work-Copy1.ipynb").write_bytes(path.read_bytes())
    assert files.find("work", "s-1", files.survey(tmp_path)) == path
    (tmp_path / "work-Copy1.ipynb").unlink()
    path.rename(tmp_path / "renamed by a person.ipynb")
    assert files.find("work", "s-1", files.survey(tmp_path)) == tmp_path / "renamed by a person.ipynb"


def test_only_the_owner_may_read_it_unless_they_say_otherwise(tmp_path: Path) -> None:
    path = files.create(tmp_path, "work", "s-1", notebook("s-1"))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    files.update(path, "s-1", lambda found: bool(found.update(cells=[])) or True)
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_saved_between_reading_and_writing_is_kept(tmp_path: Path) -> None:
    path = files.create(tmp_path, "work", "s-1", notebook("s-1"))
    saved = []

    def change(found: dict[str, Any]) -> bool:
        if not saved:
            saved.append(notebook("s-1", cells=[{"cell_type": "raw", "id": "mine", "metadata": {}, "source": ""}]))
            path.write_text(json.dumps(saved[0]))
        found["cells"].append({"cell_type": "raw", "id": "ours", "metadata": {}, "source": ""})
        return True

    files.update(path, "s-1", change)
    assert [cell["id"] for cell in files.read(path, "s-1")[0]["cells"]] == ["mine", "ours"]


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    path = files.create(tmp_path, "work", "s-1", notebook("s-1"))
    done = threading.Event()

    def write() -> None:
        for number in range(50):
            files.update(path, "s-1", lambda found, n=number: bool(found.update(padding=[n] * 20_000)) or True)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set():
        files.read(path, "s-1")
        seen += 1
    writer.join()
    assert seen > 0
    assert [each.name for each in tmp_path.iterdir()] == ["work.ipynb"], "nothing else is left behind"


def test_what_is_saved_in_the_moment_in_which_it_is_replaced_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.create(tmp_path, "work", "s-1", notebook("s-1"))
    replace, saved = Path.replace, notebook("s-1", cells=[{"id": "theirs"}])

    def opened_just_before(self: Path, target: Path) -> Path:
        with path.open("r+b") as theirs:
            replaced = replace(self, target)
            if saved:
                theirs.truncate()
                theirs.write(json.dumps(saved).encode())
                saved.clear()
        return replaced

    def append(found: dict[str, Any]) -> bool:
        found["cells"].append({"id": "ours"})
        return True

    with monkeypatch.context() as moment:
        moment.setattr(Path, "replace", opened_just_before)
        files.update(path, "s-1", append)
    assert [cell["id"] for cell in files.read(path, "s-1")[0]["cells"]] == ["theirs", "ours"]
    assert [each.name for each in tmp_path.iterdir()] == ["work.ipynb"]
