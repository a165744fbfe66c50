from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .zygote import CheapBroker


@pytest.fixture
def start_cheap() -> Iterator[Callable[..., CheapBroker]]:
    """Starts brokers for this test alone that can be killed and started again at next to no cost."""
    started: list[CheapBroker] = []

    def start(*arguments: str) -> CheapBroker:
        broker = CheapBroker("--pool-size=0", "--quiet", *arguments)
        started.append(broker)
        return broker.start()

    yield start
    for broker in started:
        broker.destroy()
