"""Many lines of 100 characters: how many arrive, and how fast."""

from __future__ import annotations

import time

from .broker import Socket, opened, result_of, started
from .figures import LINES, Figure, Goal, ratio, received
from .raw import own_kernel

CASE = "prints"
LINE = "x" * 91
"""With a number of eight digits, a space before it, it makes 100 characters."""


def printing(lines: int, *, flush: bool) -> str:
    return f"for i in range({lines}):\n    print('{LINE}', f'{{i:08}}', flush={flush})"


async def run(*, quick: bool) -> list[Figure]:
    """From before the request is written until everything is there.

    broker: ``execute`` over a WebSocket that is subscribed to the session, until the event ``execution_finished`` is
    decoded, which follows the last line. Events are on disk before they are sent.
    raw: ``BlockingKernelClient.execute``, until ``execute_reply`` and ``idle`` are decoded.

    Each has a kernel of its own of the same kernelspec: the broker starts it with its own launcher, jupyter_client as
    it is, over Unix sockets. Lines per second are those received.
    """
    figures = []
    with started() as broker, own_kernel() as raw:
        async with opened(broker) as socket:
            await socket.call("create_session", name="prints")
            await socket.call("subscribe", session="prints")
            for kind, flush, lines, rounds in (
                ("plain", False, 20_000 if quick else 200_000, 3 if quick else 7),
                ("flushed", True, 2_000 if quick else 20_000, 3 if quick else 7),
            ):
                code = printing(lines, flush=flush)
                await flood(socket, "prints", printing(1000, flush=flush))
                raw.execute(printing(1000, flush=flush))
                broker_got, raw_got, broker_speed, raw_speed = [], [], [], []
                for _ in range(rounds):
                    began = time.perf_counter()
                    got = await flood(socket, "prints", code)
                    broker_speed.append(got[0] / (got[1] - began))
                    broker_got.append(got[0])

                    began = time.perf_counter()
                    count = raw.execute(code)
                    raw_speed.append(count / (time.perf_counter() - began))
                    raw_got.append(count)
                goal = Goal("exactly", 1.0)
                figures += [
                    received(CASE, f"{kind}: received/printed, broker", broker_got, lines, goal),
                    received(CASE, f"{kind}: received/printed, raw", raw_got, lines),
                    ratio(CASE, f"{kind}: broker / raw", broker_speed, raw_speed, LINES, Goal("at least", 0.9)),
                ]
    return figures


async def flood(socket: Socket, session: str, code: str) -> tuple[int, float]:
    """Run code over a subscribed socket. The lines received, and when the last event of it was."""
    call = await socket.send("execute", session=session, code=code, wait=None)
    lines, ended, answered = 0, 0.0, False
    while not (ended and answered):
        message = await socket.receive()
        if message.get("id") == call:
            result_of(message)
            answered = True
        elif message.get("method") == "event":
            event = message["params"]["event"]
            if event["type"] == "output":
                if event["msg_type"] == "stream":
                    lines += event["content"]["text"].count("\n")
            elif event["type"] == "execution_finished":
                ended = time.perf_counter()
    return lines, ended
