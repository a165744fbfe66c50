"""What a cell says it has, it has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.composition import Composition
from broker.notebooks.contents import Contents

from ..scenarios.tools import Gate, true


async def test_what_the_disk_does_not_have_for_good_yet_is_not_taken_for_written(
    composition: Composition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, journal, gate = composition.broker, composition.journal, Gate(tmp_path)
    await broker.create_session("me", name="work")
    id, _ = await broker.submit(
        "me",
        f"{gate.wait}print('begun')",
        session="work",
        kernel=None,
        working_directory=None,
        wait=0,
        stdin=(),
        on_busy="queue",
        request_id=None,
        label=None,
    )
    await true(lambda: asyncio.sleep(0, broker.record("me", id).run == "running" and not journal.pending))
    synchronised, disk_is_slow = journal.writer._say_synchronised, True
    late: list[Any] = []
    monkeypatch.setattr(
        journal.writer, "_say_synchronised", lambda *what: late.append(what) if disk_is_slow else synchronised(*what)
    )
    gate.open()
    await true(lambda: asyncio.sleep(0, broker.record("me", id).lines))
    record = broker.record("me", id)
    assert journal.pending, "the record is read before the disk has it for good"
    (cell,) = await Contents(broker).cells([record])
    disk_is_slow = False
    for what in late:
        synchronised(*what)
    assert cell["metadata"]["broker"]["n"] == record.n
    assert "".join(output["text"] for output in cell["outputs"]) == "begun\n"
