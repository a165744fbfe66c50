"""Reports of what runs: while anything does, none otherwise, each in place of the one before."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..running import BrokerProcess, Wire
from .slow import slow_reader

EVERY = "--report-every=0.3"


def is_report(notification: dict[str, Any]) -> bool:
    return bool(notification["method"] == "execution_report")


def reports(wire: Wire) -> list[dict[str, Any]]:
    return [notification["params"] for notification in wire.notifications if is_report(notification)]


async def test_while_something_runs_all_are_told_and_then_nobody(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker(EVERY)
    async with broker.connect() as wire, broker.connect() as watcher:
        await wire.call("create_session", name="a")
        running = await wire.execute(
            "import time\nprint('one\\ntwo', flush=True)\ninput('go on? ')\nwhile True: time.sleep(0.1)",
            session="a",
            label="a label",
        )
        id = running["execution_id"]
        first = await watcher.notified(is_report)
        (reported,) = first["params"]["executions"]
        assert reported["execution_id"] == id
        assert reported["state"] == "awaiting_input"
        assert reported["input_request"] == {"prompt": "go on? ", "password": False}
        assert (reported["label"], reported["detached"], reported["lines"]) == ("a label", True, 2)
        await wire.call("send_stdin", execution_id=id, data="")
        await watcher.notified(lambda n: is_report(n) and n["params"]["executions"][0]["state"] == "running")
        seen = len(reports(watcher))
        await watcher.notified(lambda _: len(reports(watcher)) >= seen + 3)
        times = [report["time"] for report in reports(watcher)]
        assert times == sorted(times)
        assert reports(watcher)[-1]["executions"][0]["duration"] > reported["duration"]
        await wire.call("interrupt", execution_id=id)

        # Nothing runs any more. The next thing that runs is in the next report, and none came between.
        before = len(reports(watcher))
        other = await wire.execute("while True: time.sleep(0.1)", session="a", wait=0)
        await watcher.notified(lambda _: len(reports(watcher)) > before)
        assert [e["execution_id"] for e in reports(watcher)[before]["executions"]] == [other["execution_id"]]
        await wire.call("kill")


async def test_what_only_waits_in_the_queue_is_not_reported(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker(EVERY)
    async with broker.connect() as wire:
        running = await wire.execute("import time\nwhile True: time.sleep(0.1)", session="a", wait=0)
        await wire.execute("1", session="a", wait=0, on_busy="queue")
        report = await wire.notified(is_report)
        assert [e["execution_id"] for e in report["params"]["executions"]] == [running["execution_id"]]
        await wire.call("kill")


async def test_a_client_that_does_not_read_gets_the_latest_report_not_all_of_them(
    start_broker: Callable[..., BrokerProcess],
) -> None:
    broker = start_broker("--report-every=0.05")
    async with broker.connect() as wire, slow_reader(broker) as slow:
        await wire.call("create_session", name="a")
        # Reports are made large, by labels, so that what is not read soon fills every buffer on the way.
        for number in range(40):
            await wire.call("create_session", name=f"s{number}") if number < 3 else None
            await wire.execute(
                "import time\nwhile True: time.sleep(0.1)", session=f"s{number % 3}", wait=0, label="x" * 200
            )
        await wire.notified(lambda _: len(reports(wire)) >= 200)
        # As many as the buffers hold are old; then comes one that is newer than all that was skipped.
        latest = reports(wire)[-1]["time"]
        read = 0
        while True:
            message = await slow.read()
            if is_report(message):
                read += 1
                if message["params"]["time"] >= latest:
                    break
        await wire.call("kill")
        assert read < len(reports(wire))


async def test_the_server_prints_a_line_an_execution(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker(EVERY)
    async with broker.connect() as wire:
        running = await wire.execute(
            "import time\nprint('x', flush=True)\nwhile True: time.sleep(0.1)", session="a", wait=0, label="my job"
        )
        await wire.notified(is_report)
        await wire.call("kill")
    assert broker.stop() == 0
    lines = [line for line in broker.log.read_text().splitlines() if running["execution_id"] in line]
    assert lines
    assert all(re.match(r"\[\d\d:\d\d:\d\d\] \w{16}  running, detached  \d+ s  \d lines", line) for line in lines)
    assert all("my job" in line for line in lines)


async def test_clients_are_told_also_when_the_brokers_own_log_cannot_be_written() -> None:
    broker = BrokerProcess(EVERY)
    broker.log = Path("/dev/full")
    try:
        broker.start()
        async with broker.connect() as wire:
            await wire.execute("import time\nwhile True: time.sleep(0.1)", session="a", wait=0)
            await wire.notified(lambda _: len(reports(wire)) >= 3)
    finally:
        broker.destroy()
