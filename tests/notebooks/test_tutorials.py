"""The tutorials run from top to bottom, as a reader runs them, and what they say is so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from ..running import BrokerProcess

FOLDER = Path(__file__).parents[2] / "notebooks"
CLAIMS = {
    "1-first-execution": [
        "The broker is there.",
        "completed\nhello from CPython\n42\n",
        "'output_type': 'execute_result'",
        "the answer is 42",
        "failed - ZeroDivisionError - division by zero\n42\n",
        "1 execution_queued\n2 execution_started\n",
        "6 execution_finished",
        "closed\nhello from CPython\n42\n",
    ],
    "2-handover-and-coming-back": [
        "running detached\n",
        "Do not run the code again.",
        "running\nepoch",
        "training running",
        "completed after ",
        " seconds\nepoch 1: loss 1.00\n",
        "epoch 12: loss 0.08\n'done'\n",
        "12 lines in",
        "with no hole",
        "running -> interrupted - the kernel's state is preserved\nepochs = 10\n",
        "closed",
    ],
    "3-stdin": [
        "awaiting_input\nInputRequest(prompt='Your name: ', password=False)\n",
        "Answer with send_stdin",
        "StdinResult(delivered=1, queued=0)\nawaiting_input - Your language: ",
        "completed\nYour name: Ada\nHello, Ada!\nYour language: Python\nAda writes Python.\n",
        "completed\nfirst number: 1\nsecond number: 20\nthird number: 300\n321\n",
        "2 lines",
        "awaiting_input InputRequest(prompt='Password: ', password=True)\n",
        "It has 13 characters.",
        "[{'password': True, 'queued': 0}]",
        "closed",
    ],
    "4-two-executions-in-one-namespace": [
        "running detached",
        "completed\nafter ",
        "the search is running",
        "completed\nstep 28: 1.414213564\nstep 29: 1.414213562\nstep 30: 1.414213561\n",
        "completed ['one', '0', 'one', '1', 'one', '2', 'one', '3', 'one', '4']\n",
        "failed ['two', '0', 'two', '1', 'two', '2', 'two', '3', 'two', '4']\n",
        "interrupted: interrupted\nthe other:   running\nTrue\n",
        "closed\nthe other:   killed\n",
    ],
    "5-watching-and-debugging": [
        "execution_started\n",
        "line 0\n",
        "execution_finished",
        "line 0\nline 1\nline 2\nline 3\n",
        "failed - ZeroDivisionError",
        "awaiting_input - ipdb> ",
        "ipdb> p values\n[]\n",
        "ipdb> p name\n'b'\nipdb> p groups\n{'a': [1, 2, 3], 'b': []}\n",
        "completed\n",
        "awaiting_input - ipdb> ",
        "ipdb> p values\n[]\n",
        "completed {'a': 2.0, 'b': 0.0}",
        "closed",
    ],
}


@pytest.fixture(scope="module")
def directories() -> Iterator[BrokerProcess]:
    """A user's directories. There is no broker yet: the first tutorial starts one, as any user does."""
    home = BrokerProcess()
    del home.environment["JUPYTER_BROKER_TOKEN"]
    home.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{home.environment['PATH']}"
    try:
        yield home
    finally:
        stop = [sys.executable, "-m", "broker", "stop", "--kernels"]
        subprocess.run(stop, env=home.environment, check=True, capture_output=True)
        home.destroy()


def text(notebook: Any) -> str:
    """All that is shown below the cells. What a cell prints may come in pieces, and lines are lines."""
    pieces = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", "\n".join(output.traceback)
            pieces.append(output.text if output.output_type == "stream" else output.data["text/plain"])
        pieces.append("\n")
    return "".join(pieces).replace("\r\n", "\n")


def assert_says(said: str, claims: list[str]) -> None:
    """All of it is there, in this order."""
    at = 0
    for claim in claims:
        found = said.find(claim, at)
        assert found >= 0, f"{claim!r} is not in what follows:\n{said[at:]}"
        at = found + len(claim)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_tutorial_does_what_it_says(directories: BrokerProcess, name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=60,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(directories.root)}},
    )
    client.execute(env=directories.environment)
    assert_says(text(notebook), CLAIMS[name])


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_reader_finds_in_it_is_what_it_says(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert_says(text(notebook), CLAIMS[name])
    assert all(cell.get("execution_count", 1) for cell in notebook.cells), "each cell was run"


def test_every_tutorial_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(CLAIMS)
