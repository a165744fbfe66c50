"""Faults, injected: what was acknowledged is there afterwards, in order, once, to the byte.

``FAULT_SEED`` repeats a run; ``FAULT_ROUNDS`` makes more of each (default 1).
"""

from __future__ import annotations

import os
import random

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))


def seeded() -> random.Random:
    """A source of chance, whose seed is printed."""
    seed = int(os.environ.get("FAULT_SEED", random.randrange(10**9)))
    print(f"FAULT_SEED={seed}")
    return random.Random(seed)
