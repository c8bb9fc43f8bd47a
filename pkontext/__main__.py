"""``python -m pkontext`` and the ``pkontext`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C exits with 130 wherever it comes."""
    try:
        from pkontext.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
