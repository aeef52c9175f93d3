"""How long tests wait for what must happen: long, for on a busy machine all takes many times as long as alone."""

import time
from collections.abc import Callable

LONG = 300.0  # seconds: what has not happened by then never will


def until(
    condition: Callable[[], object], seconds: float = LONG, rest: Callable[[], object] = lambda: time.sleep(0.01)
) -> None:
    """Returns once the condition holds.

    Args:
        condition: Asked again and again.
        seconds: How long.
        rest: What is done from one time to the next; a browser goes on only while it is waited for.

    Raises:
        AssertionError: If it does not within so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        rest()
