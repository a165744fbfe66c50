from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from .kernelspecs import install_ipykernel
from .running import BrokerProcess, Wire

_names = itertools.count(1)


@pytest.fixture(scope="session")
def broker() -> Iterator[BrokerProcess]:
    """A broker that all tests share. Each works in a session of its own."""
    process = BrokerProcess()
    install_ipykernel(process, "stock", "pass")
    try:
        yield process.start()
    finally:
        process.destroy()


@pytest.fixture
async def wire(broker: BrokerProcess) -> AsyncIterator[Wire]:
    """A connection to the shared broker."""
    async with broker.connect() as connection:
        yield connection


@pytest.fixture
async def session(wire: Wire) -> AsyncIterator[str]:
    """The name of a session that no other test uses. It is closed at the end."""
    name = f"session-{next(_names)}"
    await wire.call("create_session", name=name)
    yield name
    await wire.call("close_session", session=name)


@pytest.fixture
async def stock_session(wire: Wire) -> AsyncIterator[str]:
    """The same, with ipykernel as it is: a kernel that promises nothing."""
    name = f"session-{next(_names)}"
    await wire.call("create_session", name=name, kernel="stock")
    yield name
    await wire.call("close_session", session=name)


@pytest.fixture
def start_broker() -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers for this test alone, with options of its own."""
    started: list[BrokerProcess] = []

    def start(*arguments: str) -> BrokerProcess:
        process = BrokerProcess(*arguments)
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.destroy()
