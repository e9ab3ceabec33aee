"""The ``xharmonize`` command from its first moment: Ctrl-C is one line while it starts too."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from xharmonize.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted: nothing had begun", file=sys.stderr)
        sys.exit(130)
