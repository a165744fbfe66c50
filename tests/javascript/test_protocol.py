"""Jupyter's own test suite for kernels, against the JavaScript kernelspec, without a broker."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import jupyter_kernel_test

from broker.kernel.launcher import DIRECTORY

from .conftest import KERNEL


class TestKernelspec(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    kernel_name = KERNEL
    language_name = "javascript"
    file_extension = ".js"
    code_hello_world = "console.log('hello, world')"
    code_stderr = "console.error('test')"
    code_execute_result = (
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "[1, 2, 3].map(n => n * n)", "result": "[ 1, 4, 9 ]"},
    )
    code_generate_error = "throw new Error('on purpose')"
    complete_code_samples = ("1", "console.log('hello, world')", "function f(x) {\n  return x * 2\n}\n")
    incomplete_code_samples = ("console.log(`hello", "function f(x) {\n  x * 2", "[1, 2")
    invalid_code_samples = ("let 5 = 7q",)

    @classmethod
    def setUpClass(cls) -> None:
        assert DIRECTORY is not None
        cls.root = Path(tempfile.mkdtemp())
        # As they are installed: beside each other, under these names.
        for folder, name in (("javascript", KERNEL), ("python", "jupyter-broker-python")):
            shutil.copytree(DIRECTORY.parent / folder, cls.root / "kernels" / name)
        cls.before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = str(cls.root)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        shutil.rmtree(cls.root)
        if cls.before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = cls.before
