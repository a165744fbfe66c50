"""What docs/agents.md shows is what happens."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from broker.mcp.catalogue import OFFERED

from ..running import PATIENCE, BrokerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
EXAMPLES = re.findall(r"<!-- runs -->\n```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
async def test_an_example_prints_what_it_says(broker: BrokerProcess, code: str, printed: str) -> None:
    async with broker.connect() as wire:
        for name in set(re.findall('session="(.*?)"', code)):
            # While its kernel starts, an execution is "queued", and here that may take long.
            await wire.call("create_session", name=name)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        env=broker.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.rstrip() for line in done.stdout.rstrip().splitlines()] == [
        line.rstrip() for line in printed.rstrip().splitlines()
    ]


def test_there_are_examples_and_configurations_are_json() -> None:
    assert len(EXAMPLES) == 2
    for configuration in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        assert json.loads(configuration)["mcpServers"]


def test_every_tool_is_told_of() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)[: len(OFFERED)] == [each.name for each in OFFERED]
