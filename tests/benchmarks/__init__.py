"""How the broker compares with what it stands beside: ``python -m tests.benchmarks``.

Everything is a ratio of two things measured in the same run, turn and turn about, so that a noisy machine is noisy
for both. Times by themselves say nothing here, and nothing is asserted.
"""
