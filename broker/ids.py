"""Ids: short, opaque, sortable by time."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: nothing in it is mistaken for something else."""
SESSION_PREFIX = "s-"

_last = 0


def new_id() -> str:
    """Sixteen characters: nine of milliseconds since the epoch, never the same twice here, and seven of chance."""
    global _last  # noqa: PLW0603
    _last = max(_last + 1, time.time_ns() // 1_000_000)
    return _encode(_last, 9) + _encode(secrets.randbits(35), 7)


def new_session_id() -> str:
    return SESSION_PREFIX + new_id()


def looks_like_session_id(text: str) -> bool:
    """Whether this can only be a session's id, and so never becomes a session's name."""
    rest = text.removeprefix(SESSION_PREFIX)
    return rest != text and len(rest) == 16 and all(character in ALPHABET for character in rest)


def _encode(number: int, length: int) -> str:
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
