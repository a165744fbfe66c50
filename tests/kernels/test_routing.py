"""Other clients of a kernel that is busy: each is answered, its own cells run in order, and beside everybody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from .own import PATIENCE, OwnKernel

Connect = Callable[[], BlockingKernelClient]


@pytest.fixture
def connect(kernel: OwnKernel) -> Iterator[Connect]:
    """Clients such as people have: jupyter_client's own."""
    clients: list[BlockingKernelClient] = []

    def connect() -> BlockingKernelClient:
        client = BlockingKernelClient(connection_file=kernel.connection_file)
        client.load_connection_file()
        client.start_channels()
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.stop_channels()


@pytest.fixture
def busy(kernel: OwnKernel, tmp_path: Path) -> Iterator[str]:
    """An execution of the broker's that runs in the main shell until the test is over."""
    gate = tmp_path / "gate"
    execution = kernel.execute(
        f"import os, time\nprint('begun')\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nshared = 'after'"
    )
    kernel.until(lambda: "begun" in kernel.text(execution))
    yield execution
    gate.touch()
    kernel.done(execution)


def reply_to(client: BlockingKernelClient, msg_id: str) -> dict[str, Any]:
    while True:
        message = client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"]["msg_id"] == msg_id:
            return message["content"]


def test_a_kernel_that_is_busy_says_who_it_is(busy: str, connect: Connect) -> None:
    client = connect()
    assert reply_to(client, client.kernel_info())["language_info"]["name"] == "python"


def test_a_persons_cell_runs_beside_one_that_is_under_way(kernel: OwnKernel, busy: str, connect: Connect) -> None:
    client = connect()
    cell = client.execute("print('beside'); mine = 1")
    assert reply_to(client, cell)["status"] == "ok"
    kernel.until(lambda: kernel.text(cell) == "beside\n")
    assert not kernel.is_idle


def test_completion_works_while_the_kernel_is_busy(busy: str, connect: Connect) -> None:
    client = connect()
    assert "print" in reply_to(client, client.complete("prin", 4))["matches"]


def test_the_cells_of_one_client_run_in_their_order(busy: str, connect: Connect) -> None:
    client = connect()
    reply_to(client, client.execute("order = []"))
    cells = [client.execute(f"import time; time.sleep({0.2 if i == 0 else 0}); order.append({i})") for i in range(5)]
    for cell in cells:
        assert reply_to(client, cell)["status"] == "ok"
    cell = client.execute("assert order == [0, 1, 2, 3, 4], order")
    assert reply_to(client, cell)["status"] == "ok"


def test_an_error_in_one_clients_cell_leaves_anothers_queue_alone(busy: str, connect: Connect) -> None:
    one, other = connect(), connect()
    failing = [one.execute("import time; time.sleep(0.3); 1 / 0"), one.execute("1")]
    fine = [other.execute("import time; time.sleep(0.3)"), other.execute("2")]
    assert [reply_to(one, cell)["status"] for cell in failing] == ["error", "aborted"]
    assert [reply_to(other, cell)["status"] for cell in fine] == ["ok", "ok"]


def test_cells_of_two_clients_run_side_by_side(connect: Connect) -> None:
    one, other = connect(), connect()
    # Each waits for what the other does.
    first = one.execute("import threading; a, b = threading.Event(), threading.Event()")
    assert reply_to(one, first)["status"] == "ok"
    cells = one.execute("a.set(); assert b.wait(60)"), other.execute("b.set(); assert a.wait(60)")
    assert [reply_to(one, cells[0])["status"], reply_to(other, cells[1])["status"]] == ["ok", "ok"]


def test_when_nothing_is_under_way_a_cell_has_the_main_thread(connect: Connect) -> None:
    client = connect()
    for _ in range(3):
        cell = client.execute("import threading; assert threading.current_thread() is threading.main_thread()")
        assert reply_to(client, cell)["status"] == "ok"


def test_a_request_that_is_not_signed_occupies_nothing(kernel: OwnKernel, connect: Connect) -> None:
    client = connect()
    client.session.key = b"another"
    client.execute("1 / 0")
    own = connect()
    cell = own.execute("import threading; assert threading.current_thread() is threading.main_thread()")
    assert reply_to(own, cell)["status"] == "ok"
