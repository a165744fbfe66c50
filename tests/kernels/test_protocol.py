"""Jupyter's own test suite for kernels, against the kernelspec as it is installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import jupyter_kernel_test

from broker.kernel.launcher import DIRECTORY


class TestKernelspec(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    kernel_name = "jupyter-broker-python"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    code_page_something = "zip?"
    code_execute_result = (
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    )
    code_display_data = (
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
    )
    code_generate_error = "raise ValueError('on purpose')"
    code_inspect_sample = "print"
    code_history_pattern = "1?2*"
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    completion_samples = ({"text": "zi", "matches": {"zip"}},)
    complete_code_samples = ("1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n")
    incomplete_code_samples = ("print('''hello", "def f(x):\n  x*2")
    invalid_code_samples = ("import = 7q",)
    # Not "range": the suite asks for the current session by a number that IPython does not know it by.
    supported_history_operations = ("tail", "search")

    @classmethod
    def setUpClass(cls) -> None:
        assert DIRECTORY is not None
        cls.root = Path(tempfile.mkdtemp())
        shutil.copytree(DIRECTORY, cls.root / "kernels" / cls.kernel_name)
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
