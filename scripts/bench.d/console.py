"""What is said on the way, on stderr; and how a part says that it cannot be measured here."""

import sys
import time

STARTED = time.monotonic()


class NotMeasured(Exception):
    """This cannot be measured here; the text says why, and stands in the table."""


def say(text):
    """One line of progress, with the minutes since the start."""
    seconds = int(time.monotonic() - STARTED)
    print(f"[{seconds // 60:2}:{seconds % 60:02}] {text}", file=sys.stderr, flush=True)
