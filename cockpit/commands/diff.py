"""``cockpit diff``: two runs beside each other, as text or JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

from cockpit.commands.terminal import printable, table
from cockpit.comparing.comparison import Finding, Ranking, Setting, rank, settings_of
from cockpit.run import Run

MOST_NOISES = 1000.0  # beyond which a number says no more
NAMED = 8  # of a list of names, before "and … more"


def write_text(a: Run, b: Run, file: TextIO, *, top: int, room: int | None) -> None:
    """Write what was set differently, and where the runs part for good.

    Args:
        a: One run.
        b: The other.
        file: Where to write.
        top: Most lines of the ranking; 0 for all of them.
        room: Characters in a line; ``None`` for as many as it takes.
    """
    print(*table([_described("A", a), _described("B", b)], room), sep="\n", file=file)
    settings = settings_of([a.header, b.header])
    print(*_settings(settings, room), sep="\n", file=file, flush=True)  # what follows may take seconds
    print(*_ranking(rank(a.reader, b.reader), top, room), sep="\n", file=file)


def write_json(a: Run, b: Run, file: TextIO) -> None:
    """Write the same as one JSON object: what differs in ``settings``, every divergence in ``divergences``."""
    ranking = rank(a.reader, b.reader)
    content = {
        "a": {"name": a.name, "state": a.state},
        "b": {"name": b.name, "state": b.state},
        "settings": [
            {"section": setting.section, "name": setting.name, "a": setting.values[0], "b": setting.values[1]}
            for setting in settings_of([a.header, b.header])
            if setting.differs
        ],
        "until": ranking.until,
        "divergences": [_entry(finding) for finding in ranking.apart],
        "together": ranking.together,
        "untold": list(ranking.untold),
        "only_a": list(ranking.only[0]),
        "only_b": list(ranking.only[1]),
    }
    json.dump(content, file, allow_nan=False, indent=1)
    file.write("\n")


def _entry(finding: Finding) -> dict[str, Any]:
    verdict = finding.verdict
    return {
        "key": finding.key,
        "layer": finding.layer or None,
        "step": finding.step,
        "spread": verdict.spread,
        "from_start": verdict.from_start,
        "noises": verdict.noises if math.isfinite(verdict.noises) else "Infinity",
        "chance": verdict.chance,
        "until": verdict.until,
    }


def _described(letter: str, run: Run) -> list[str]:
    steps = [entry.last_step for entry in run.reader.series()]
    return [letter, run.name, run.state, f"last step {max(steps)}" if steps else "no steps"]


def _settings(settings: list[Setting], room: int | None) -> Iterator[str]:
    different = [setting for setting in settings if setting.differs]
    same = len(settings) - len(different)
    yield ""
    if not different:
        yield f"Nothing was set differently: all {same} settings are the same."
        return
    yield f"Set differently ({same} settings are the same):"
    cells = [[setting.section, setting.name, *(value or "–" for value in setting.values)] for setting in different]
    yield from table([["", "", "A", "B"], *cells], room)


def _ranking(ranking: Ranking, top: int, room: int | None) -> Iterator[str]:
    yield ""
    if ranking.until is None:
        yield "The runs share too few readings to be compared."
    else:
        yield from _findings(ranking, top, room)
    for words, names in (
        ("Only A has", ranking.only[0]),
        ("Only B has", ranking.only[1]),
        ("Too few readings that both have", ranking.untold),
    ):
        if names:
            rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield from _wrapped(f"{words}: {', '.join(names[:NAMED])}{rest}.", room)


def _findings(ranking: Ranking, top: int, room: int | None) -> Iterator[str]:
    apart = f"{ranking.together} quantities are not apart beyond noise up to step {ranking.until}"
    if not ranking.apart:
        yield from _wrapped(f"The runs stay together: {apart}.", room)
        return
    shown = ranking.apart[:top] if top else ranking.apart
    yield f"Apart for good from step … on ({apart}):"
    yield from table([["STEP", "QUANTITY", "LAYER", "TIMES THE NOISE", "BY CHANCE"], *map(_row, shown)], room)
    if len(shown) < len(ranking.apart):
        yield f"… and {len(ranking.apart) - len(shown)} more; --top 0 shows all."


def _row(finding: Finding) -> list[str]:
    verdict = finding.verdict
    far = f"{verdict.noises:.3g}" if verdict.noises < MOST_NOISES else f"over {MOST_NOISES:.0f}"
    first = " (the first)" if verdict.from_start else ""
    return [f"{finding.step}{first}", finding.name, finding.layer, far, finding.odds]


def _wrapped(text: str, room: int | None) -> list[str]:
    return textwrap.wrap(printable(text), room) if room else [printable(text)]
