"""How the backward passes of a step make one mini-batch."""

from __future__ import annotations

from collections.abc import Sequence

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.unavailable import Unavailable


def pooled_shares(passes: Sequence[BackwardPass]) -> tuple[float, list[float]]:
    """How the backward passes of a step make one mini-batch.

    Args:
        passes: At least one.

    Returns:
        What the accumulated gradient is divided by, and each pass's part of the mean, adding up to 1.

    Raises:
        Unavailable: If the passes do not belong together, or cancel.
    """
    scales = [backward.scale() for backward in passes]
    if not any(backward.losses for backward in passes):
        # Nothing tells what was divided by the number of passes: the gradient is read as the optimizer finds it.
        return scales[0], [1 / len(passes)] * len(passes)
    whole = sum(scales)
    if whole == 0:
        raise Unavailable("the backward passes of this step have weights that add up to zero")
    return whole, [scale / whole for scale in scales]


def pooled_loss(passes: Sequence[BackwardPass]) -> float:
    """The number of the whole mini-batch, as if it had not come in parts: a mean of means, a sum of sums.

    Args:
        passes: At least one.

    Raises:
        Unavailable: As :func:`pooled_shares`, or if a pass does not tell its loss.
    """
    k = len(passes)
    numbers = [backward.loss(k) for backward in passes]
    _, shares = pooled_shares(passes)
    if all(backward.losses for backward in passes) and not any(backward.summed(k) for backward in passes):
        return sum(share * number for share, number in zip(shares, numbers, strict=True))
    units = [backward.unit(k) for backward in passes]
    return sum(unit * number for unit, number in zip(units, numbers, strict=True)) / max(units, key=abs)


def pooled_chance(passes: Sequence[BackwardPass]) -> float | None:
    """The number of the whole mini-batch where all classes are held for equally likely; a mean or a sum as it was.

    ``None`` unless each pass comes from one loss alone whose classes are known.
    """
    if any(len(backward.losses) != 1 or backward.severed or not backward.explained() for backward in passes):
        return None
    calls = [backward.losses[0] for backward in passes]
    guesses = {call.guessing for call in calls}
    guess = guesses.pop() if len(guesses) == 1 else None
    k = len(passes)
    if guess is None or not any(backward.summed(k) for backward in passes):
        return guess
    if not all(call.reduced and backward.summed(k) for call, backward in zip(calls, passes, strict=True)):
        return None
    unit = max((backward.unit(k) for backward in passes), key=abs)
    return guess * sum(call.scale() for call in calls) / unit if unit else None
