"""Output arrives while the code runs."""

from __future__ import annotations

from ..running import Wire


async def test_the_first_of_ten_prints_arrives_before_the_second_is_printed(wire: Wire, session: str) -> None:
    subscription = await wire.call("subscribe", session=session)
    running = wire.begin(
        "execute",
        session=session,
        code="import time\nfor i in range(10):\n    print(i, time.time(), flush=True)\n    time.sleep(0.5)",
    )
    await wire.event(lambda e: e["type"] == "output" and e["content"]["text"].startswith("0 "))
    assert not any(
        n["params"]["event"].get("content", {}).get("text", "").startswith("1 ")
        for n in wire.notifications
        if n["method"] == "event"
    )
    execution = await running
    assert execution["state"] == "completed"
    assert execution["lines"] == 10
    await wire.call("unsubscribe", subscription=subscription["subscription"])


async def test_what_follows_a_message_that_is_not_as_it_must_be_is_heard(
    wire: Wire, session: str, stock_session: str
) -> None:
    code = """
import time
kernel = get_ipython().kernel
for number in range(5):
    # What is read together with it must not go with it.
    kernel.session.send(kernel.iopub_socket, "status", {"execution_state": number}, parent=kernel.get_parent("shell"))
    print("line", number, flush=True)
    time.sleep(0.05)
"""
    for name in (session, stock_session):
        execution = await wire.execute(code, session=name)
        assert execution["text"] == "".join(f"line {number}\n" for number in range(5))
        assert execution["state"] == "completed"
