"""Where the program begins: whoever interrupts it before its parts are loaded gets no traceback either."""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from seawall.ops import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)
