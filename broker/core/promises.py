"""What a kernel can promise. What it does not, a session does without, and says so where it matters."""

from __future__ import annotations

NOTHING_LOST = "nothing_lost"
"""All that it sends is kept, in one order, until it is in the journal; also while no broker is there, or if it dies."""
CONCURRENT = "concurrent"
"""Executions run side by side, in lanes of one namespace, each with its own outputs and prompts."""
INTERRUPTS_ONE = "interrupts_one"
"""An interrupt reaches exactly one execution."""
THREADS_ATTRIBUTED = "threads_attributed"
"""What a thread prints is the output of the execution that started it."""
DESCRIPTORS_ATTRIBUTED = "descriptors_attributed"
"""What child processes and C code write to descriptors 1 and 2 is output, too, of the execution that ran them."""
