"""Durations and sizes as people read them."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """``4.2s``, ``1:05``, ``2:03:09`` or ``3d 04:05``; ``-`` if there is none."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest}s"


def size(count: int) -> str:
    """``512 B``, ``1.4 kB``, ``3.0 MB`` ..."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
