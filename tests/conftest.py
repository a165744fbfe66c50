from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from .kernelspecs import install_ipykernel
from .running import BrokerProcess, Wire

_names = itertools.count(1)

# Hundreds of processes are started, and without it each would compile the sources anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# jsonschema's check of a format that is in no schema here, which takes seconds to import.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

FIRST = ("browser", "faults", "agents", "notebooks_on_disk", "notebooks", "lab", "kernels", "javascript", "scenarios")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, or the last of it would run alone while other processors have nothing to do."""
    places = {name: place for place, name in enumerate(FIRST)}
    folder = len(Path(__file__).parent.parts)
    items.sort(key=lambda item: places.get(item.path.parts[folder], len(FIRST)))


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
