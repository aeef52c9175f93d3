"""How long tests wait for what must happen: long, for on a busy machine all takes many times as long as alone."""

import time
from collections.abc import Callable

LONG = 300.0  # seconds: what has not happened by then never will


def until(condition: Callable[[], object], seconds: float = LONG) -> None:
    """Returns once the condition holds.

    Raises:
        AssertionError: If it does not within so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
