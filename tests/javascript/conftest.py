from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from broker.kernel.launcher import DIRECTORY

from ..running import BrokerProcess, Wire

KERNEL = "jupyter-broker-javascript"
_names = itertools.count(1)


def install(broker: BrokerProcess) -> BrokerProcess:
    """Install the kernelspec, as the package does, but as the checkout has it."""
    assert DIRECTORY is not None
    kernels = broker.root / "data" / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    (kernels / KERNEL).symlink_to(DIRECTORY.parent / "javascript")
    return broker


@pytest.fixture(scope="package")
def javascript_broker() -> Iterator[BrokerProcess]:
    """A broker that the tests of this folder share."""
    process = install(BrokerProcess())
    try:
        yield process.start()
    finally:
        process.destroy()


@pytest.fixture
async def wire(javascript_broker: BrokerProcess) -> AsyncIterator[Wire]:
    async with javascript_broker.connect() as connection:
        yield connection


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The working directory of ``session``."""
    return tmp_path


@pytest.fixture
async def session(wire: Wire, directory: Path) -> AsyncIterator[str]:
    """The name of a JavaScript session that no other test uses. It is closed at the end."""
    name = f"javascript-{next(_names)}"
    await wire.call("create_session", name=name, kernel=KERNEL, working_directory=str(directory))
    yield name
    await wire.call("close_session", session=name)


@pytest.fixture
def start_broker() -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers for this test alone, with options of its own."""
    started: list[BrokerProcess] = []

    def start(*arguments: str) -> BrokerProcess:
        process = install(BrokerProcess(*arguments))
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.destroy()
