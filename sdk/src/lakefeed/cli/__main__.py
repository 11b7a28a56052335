"""The entry of the command `lakefeed`, which is also ``python -m lakefeed.cli``."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
COMPLETION_VARIABLE = "_LAKEFEED_COMPLETE"


def main() -> None:
    """Runs the command line of this process. An interrupt during the imports ends it without a traceback."""
    waiting = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waiting:
        signal.signal(signal.SIGINT, _end_at_once)
    from lakefeed.cli.main import main as run_command

    if waiting:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Ends the process: nothing has begun yet."""
    if COMPLETION_VARIABLE not in os.environ and sys.stderr is not None:
        sys.stderr.write("lakefeed: interrupted\n")
        sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
