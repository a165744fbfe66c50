"""``python -m broker`` is ``jupyter broker``."""

from .cli import main

if __name__ == "__main__":
    main()
