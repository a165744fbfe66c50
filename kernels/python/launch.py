"""Starts the kernel, by path: ``python launch.py -f CONNECTION_FILE``, in any environment that has ipykernel.

Nothing of it needs to be installed there. Where that ipykernel is too old for it, the stock kernel runs, and the
broker is told so.
"""

import os
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OLDEST = (7, 3)
"""The first ipykernel whose insides are the ones that are extended here."""


def main() -> None:
    # As `python -m` would have it, less the working directory: that is for user code, and comes back later.
    sys.path[0] = HERE
    from ipykernel import version_info

    if sys.version_info >= (3, 10) and tuple(version_info[:2]) >= OLDEST:
        from broker_kernel.app import main as run

        sys.path.remove(HERE)
        run(sys.argv[1:])
    else:
        sys.path.remove(HERE)
        say_stock(os.environ.pop("JUPYTER_BROKER_OUTBOX", ""))
        from ipykernel.kernelapp import launch_new_instance

        launch_new_instance()


def say_stock(outbox: str) -> None:
    """Tell the broker that this kernel will not use its outbox: the only record that is written without one."""
    if outbox:
        frames = [b"stock", b"", b"", b"{}"]
        body = struct.pack("<4Q", *map(len, frames)) + b"".join(frames)
        head = struct.pack("<QQdQIHB", 39 + len(body), 1, time.time(), 0, 0, len(frames), 3)
        with open(os.path.join(outbox, "%016d" % 1), "wb") as file:
            file.write(head + body)
        with open(os.path.join(outbox, "wake"), "wb", buffering=0) as wake:
            wake.write(b"\0")


if __name__ == "__main__":
    main()
