"""The ``xharmonize`` command from its first moment: Ctrl-C is one line while it starts too."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Load the command line and run it, or complete a word for a shell."""
    try:
        if "_XHARMONIZE_COMPLETE" in os.environ:
            from xharmonize.cli.completion import complete

            complete()
        from xharmonize.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted: nothing had begun", file=sys.stderr)
        sys.exit(130)
    finally:
        # An interrupt that came while CPython ran a text, as dataclasses do, is remembered even
        # where it was caught, and `python -m` would end by SIGINT (-2). The next text clears that.
        exec("")
