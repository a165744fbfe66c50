from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..running import BrokerProcess


@pytest.fixture(scope="module")
def hasty() -> Iterator[BrokerProcess]:
    """A broker that hands over after two seconds."""
    process = BrokerProcess("--handover-after=2")
    try:
        yield process.start()
    finally:
        process.destroy()
