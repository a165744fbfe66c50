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
