"""Command line: the entry point ``seawall``. An interrupt while its parts are still loaded leaves no traceback."""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from seawall.ops.cli import _app  # noqa: PLC0415 - an interrupt while it loads is to leave no traceback

        _app.main()
    except KeyboardInterrupt:
        sys.exit(130)
