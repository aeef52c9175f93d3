"""The table of what ``learned_adam.py`` measured. ``python learned_adam_table.py TABLE.csv`` prints it once more."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import Row, read_csv

LEARNED = ("LearnedAdam", "learned")
LOSSES = {"valid_loss": "validation loss", "train_loss": "training loss"}
SAMPLES = 10_000
"""Of the bootstrap."""


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half, along the last axis; of values on its border, the part that is inside."""
    n = values.shape[-1]
    inside = np.clip(np.arange(1, n + 1) - n / 4, 0, 1)
    inside = np.minimum(inside, inside[::-1])
    part = np.multiply(np.sort(values), inside, where=inside > 0, out=np.zeros(values.shape))
    return np.asarray(part.sum(-1) / inside.sum())


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Where 95 % of interquartile means of resampled values lie (percentile bootstrap); not finite where too many
    diverged."""
    drawn = np.random.default_rng(0).integers(len(values), size=(SAMPLES, len(values)))
    with np.errstate(invalid="ignore"):  # between two infinities
        low, high = np.quantile(interquartile_mean(values[drawn]), [0.025, 0.975])
    return float(low), float(high)


def best(rows: Sequence[Row], optimizer: str, schedule: str, loss: str) -> float:
    """The learning rate of the lowest mean loss of the trainings for tuning; one that diverged once is out."""
    found: dict[float, list[float]] = {}
    for row in rows:
        if (row["optimizer"], row["schedule"], row["part"]) == (optimizer, schedule, "tuning"):
            found.setdefault(float(row["rate"]), []).append(float(row[loss]))
    means = {rate: float(np.mean(losses)) for rate, losses in found.items()}
    return min(means, key=lambda rate: means[rate] if math.isfinite(means[rate]) else math.inf)


def losses_of(rows: Sequence[Row], way: tuple[str, str], rate: float, loss: str) -> NDArray[np.float64]:
    """Of the trials with one learning rate, in the order of their numbers; infinite where one diverged."""
    some = [
        r for r in rows if r["part"] == "trial" and (r["optimizer"], r["schedule"]) == way and float(r["rate"]) == rate
    ]
    found = {int(row["number"]): float(row[loss]) for row in some}
    return np.nan_to_num(np.array([found[number] for number in sorted(found)]), nan=np.inf, posinf=np.inf)


def lines(rows: Sequence[Row], loss: str) -> list[list[str]]:
    """One line of cells for each task: interquartile means of the trials, with their intervals, and of paired
    differences to the tuned way that was the best on the trainings for tuning, ``"diverged"`` where their interval is
    not finite."""
    ways = list(dict.fromkeys((row["optimizer"], row["schedule"]) for row in rows if row["optimizer"] != LEARNED[0]))
    head = ["task", "steps", LEARNED[0], *(f"{name}, {schedule}" for name, schedule in ways)]
    found = [[*head, "difference to the best", "to the best rate of the first task"]]
    names = list(dict.fromkeys(row["cell"] for row in rows))
    first = [row for row in rows if row["cell"] == names[0]]
    for name in names:
        own = [row for row in rows if row["cell"] == name]
        ours = losses_of(own, LEARNED, 1.0, loss)
        tuned = {way: losses_of(own, way, best(own, *way, loss), loss) for way in ways}
        chosen, carried = _leader(own, ways, loss), _leader(first, ways, loss)
        there = losses_of(own, carried, best(first, *carried, loss), loss)
        found.append([
            *(name, own[0]["steps"], _mean(ours)),
            *(_mean(values) + ("*" if way == chosen else "") for way, values in tuned.items()),
            *(_difference(ours, values) for values in (tuned[chosen], there)),
        ])  # fmt: skip
    return found


def costs(rows: Sequence[Row]) -> str:
    """What tuning took, in seconds of processor time: of one way, a mean, and of all."""
    seconds: dict[tuple[str, ...], float] = {}
    for row in rows:
        if row["part"] == "tuning":
            key = row["cell"], row["optimizer"], row["schedule"]
            seconds[key] = seconds.get(key, 0.0) + float(row["seconds"])
    names = list(dict.fromkeys(row["cell"] for row in rows))
    each = {name: [s for key, s in seconds.items() if key[0] == name] for name in names}
    return "\n".join(
        f"tuning on {name}: {np.mean(some):.0f} s for one optimizer and schedule, {sum(some):.0f} s for all"
        for name, some in each.items()
    )


def print_table(rows: Sequence[Row]) -> None:
    """For Markdown. The tuned way that was the best on the trainings for tuning has a star."""
    for loss, words in LOSSES.items():
        head, *body = lines(rows, loss)
        print(f"\n{words}\n")
        for cells in (head, ["---"] * len(head), *body):
            print("| " + " | ".join(cells) + " |")
    print("\n" + costs(rows))


def _leader(rows: Sequence[Row], ways: Sequence[tuple[str, str]], loss: str) -> tuple[str, str]:
    def mean(way: tuple[str, str]) -> float:
        rate = best(rows, *way, loss)
        some = [
            float(row[loss])
            for row in rows
            if (row["optimizer"], row["schedule"], row["part"]) == (*way, "tuning") and float(row["rate"]) == rate
        ]
        return float(np.nan_to_num(np.mean(some), nan=np.inf))

    return min(ways, key=mean)


def _mean(values: NDArray[np.float64]) -> str:
    low, high = interval(values)
    return f"{interquartile_mean(values):.3f} [{low:.3f}, {high:.3f}]"


def _difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    with np.errstate(invalid="ignore"):  # where both diverged there is none
        difference = ours - theirs
    low, high = interval(difference)
    finite = math.isfinite(low) and math.isfinite(high)
    verdict = "diverged" if not finite else "ahead" if high < 0 else "behind" if low > 0 else "equal"
    return f"{interquartile_mean(difference):+.3f} [{low:+.3f}, {high:+.3f}], {verdict}"


if __name__ == "__main__":
    print_table(read_csv(Path(sys.argv[1])))
