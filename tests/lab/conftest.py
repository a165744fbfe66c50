from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from ..kernelspecs import install_ipykernel
from ..running import Wire
from .server import ServerProcess

_names = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that all tests share. Each works in a session of its own."""
    process = ServerProcess()
    install_ipykernel(process, "stock", "pass")
    try:
        yield process.start()
    finally:
        process.destroy()


@pytest.fixture
async def wire(server: ServerProcess) -> AsyncIterator[Wire]:
    """A connection to the broker in the shared server."""
    async with server.connect() as connection:
        yield connection


@pytest.fixture
async def session(wire: Wire) -> str:
    """The name of a session that no other test uses."""
    name = f"session-{next(_names)}"
    await wire.call("create_session", name=name)
    return name


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers for this test alone."""
    started: list[ServerProcess] = []

    def start(*arguments: str, **options: object) -> ServerProcess:
        process = ServerProcess(*arguments, **options)  # type: ignore[arg-type]
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.destroy()
