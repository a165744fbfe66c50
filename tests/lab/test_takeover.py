"""A server that starts takes the sessions over from a broker that runs alone; and what becomes of them when it ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from broker.client import Client, Event

from ..running import PATIENCE, BrokerProcess, assert_whole, text_of
from .server import ServerProcess, listed, opened

COUNTS = """
import time
from pathlib import Path
print("begun", flush=True)
number = 0
while not Path({stop!r}).exists():
    number += 1
    print("line", number, flush=True)
    time.sleep(0.01)
"""


def command(broker: BrokerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of this user, with no word about where the broker is."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        env={name: value for name, value in broker.environment.items() if "TOKEN" not in name},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that ends kernels that nobody uses."""
    process = ServerProcess("--MappingKernelManager.cull_idle_timeout=2", "--MappingKernelManager.cull_interval=1")
    try:
        yield process.start()
    finally:
        process.destroy()


@pytest.fixture
def broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    return start_broker()


async def test_a_server_takes_over_what_runs_and_clients_follow_it_there_and_back(
    broker: BrokerProcess, start_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, broker.environment[name])
    stop = broker.root / "stop"
    async with Client.connect(data_dir=broker.data_dir) as client:
        await client.execute("x = 41", session="work")
        before = await client.execute(COUNTS.format(stop=str(stop)), session="work", wait=0)
        pid = (await client.get_session("work")).kernel_pid
        events: list[Event] = []

        async def follow() -> None:
            async for event in client.stream(before.execution_id, after=0):
                events.append(event)

        following = asyncio.create_task(follow())
        server = await asyncio.to_thread(start_server, directory=broker)
        assert broker.process is not None
        assert broker.process.wait(PATIENCE) == 0, "it was asked to end, and did"
        assert server.logged("taking over from the broker at")
        session = await client.get_session("work")
        assert session.kernel_pid == pid, "the client is at the new address, and the kernel is the same"
        found = await listed(server, "work", "busy")
        async with opened(server, found["kernel"]["id"]) as kernel:
            await kernel.until(lambda m: "begun\nline 1\nline 2\n" in m["content"].get("text", ""))
        _, ordinary = server.api("POST", "kernels", {"name": "python3"})

        # As JupyterLab ends it, from its menu.
        assert server.api("POST", "shutdown")[0] == 200
        assert server.process is not None
        await asyncio.to_thread(server.process.wait, PATIENCE)
        assert not list((server.root / "run").glob("jupyter-broker-*.json"))
        assert not list((server.root / "run").glob(f"kernel-{ordinary['id']}.json")), "its own kernels end with it"
        alive = {process.environ()["JUPYTER_BROKER_KERNEL_ID"] for process in server.kernels()}
        assert alive == {found["kernel"]["id"]}, "the broker's runs on, and what was kept ready is gone"

        await asyncio.to_thread(broker.start)
        assert (await client.get_session("work")).kernel_pid == pid
        stop.touch()
        await asyncio.wait_for(following, PATIENCE)
        assert (await client.execute("x", session="work")).text.strip() == "41"
    numbers = [event.n for event in events]
    assert numbers == list(range(1, len(numbers) + 1)), "one stream, over three brokers, without a hole"
    async with broker.connect() as wire:
        logged = await wire.events(before.execution_id)
        assert_whole(logged)
        lines = text_of(logged).splitlines()
        assert lines == ["begun", *(f"line {i}" for i in range(1, len(lines)))]


async def test_commands_use_the_broker_in_the_server_and_do_not_end_it(server: ServerProcess) -> None:
    ran = command(server, "run", "--session=shell", "-c", "print(6 * 7)")
    assert (ran.returncode, ran.stdout) == (0, "42\n"), ran.stderr
    await listed(server, "shell")
    assert "shell" in command(server, "sessions").stdout
    stopped = command(server, "stop")
    assert stopped.returncode == 1
    assert f"pid {server.pid}" in stopped.stderr
    assert server.process is not None
    assert server.process.poll() is None
    alone = command(server, "serve", "--port=0")
    assert alone.returncode == 1
    assert "use the broker in that one" in alone.stderr


async def test_a_second_server_says_who_has_the_broker_and_is_else_a_server(server: ServerProcess) -> None:
    first = server
    second = ServerProcess(directory=first)
    second.launch()
    try:
        second.until(lambda: second.logged("This server runs no broker"))
        said = next(line for line in second.log.read_text().splitlines() if "This server runs no broker" in line)
        assert first.info is not None
        assert first.info.url in said
        files = list((first.root / "run").glob(f"jpserver-{second.pid}.json"))
        second.url = json.loads(files[0].read_text())["url"]
        _, started = second.api("POST", "kernels", {"name": "python3"})
        async with opened(second, started["id"]) as kernel:
            own = await kernel.execute("print('ordinary')")
            await kernel.idle(own)
            assert kernel.text(own) == "ordinary\n"
        assert second.request_as("GET", "api/broker/v1/health")[0] == 404
    finally:
        second.stop()
    assert first.request("api/broker/v1/health")[0] == 200
    assert len(list((first.root / "run").glob("jupyter-broker-*.json"))) == 1, "it took nothing away"


async def test_idle_culling_leaves_the_brokers_kernels_alone(server: ServerProcess) -> None:
    async with server.connect() as wire:
        await wire.execute("x = 1", session="work")
        await listed(server, "work")
        _, ordinary = server.api("POST", "kernels", {"name": "python3"})
        await asyncio.to_thread(server.until, lambda: server.api("GET", f"kernels/{ordinary['id']}")[0] == 404)
        assert server.logged("Culling '")
        assert "work" in server.sessions()
        assert (await wire.execute("x", session="work"))["text"].strip() == "1"
