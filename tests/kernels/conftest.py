from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .own import OwnKernel


@pytest.fixture(scope="module")
def kernels() -> Iterator[list[OwnKernel]]:
    started: list[OwnKernel] = []
    yield started
    for kernel in started:
        kernel.close()


@pytest.fixture
def kernel(kernels: list[OwnKernel]) -> OwnKernel:
    """A kernel that the tests of a file share. Whatever it says has a number, without a hole."""
    if not kernels or not kernels[-1].is_idle:
        kernels.append(OwnKernel())
    kernel = kernels[-1]
    assert [record.number for record in kernel.said] == list(range(1, len(kernel.said) + 1))
    return kernel


@pytest.fixture
def start_kernel() -> Iterator[Callable[..., OwnKernel]]:
    """Starts kernels for this test alone."""
    started: list[OwnKernel] = []

    def start(**env: str) -> OwnKernel:
        started.append(OwnKernel(**env))
        return started[-1]

    yield start
    for kernel in started:
        kernel.close()
