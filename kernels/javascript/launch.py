"""Starts the kernel, by path: ``python launch.py -f CONNECTION_FILE``.

What it shares with the Python kernel is taken from that one's folder: beside this one in a checkout and in the
package, and where kernelspecs are installed.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = ("python", "jupyter-broker-python")


def main() -> None:
    # As `python -m` would have it, less the working directory, which is for user code.
    sys.path[0] = str(HERE)
    for folder in SHARED:
        if (HERE.parent / folder / "broker_kernel").is_dir():
            sys.path.insert(1, str(HERE.parent / folder))
            break
    else:
        sys.exit(f"the folder of the Python kernel is not beside {HERE}; install jupyter-broker again")
    from javascript_kernel.app import main as run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
