"""The same cases for the broker and for what stands beside it: ``python -m tests.comparison``.

Each cell is what was seen when the case ran. Nothing is asserted here, and nothing of it is part of the test suite: it
installs the peers, of other projects, and it takes many minutes.
"""
