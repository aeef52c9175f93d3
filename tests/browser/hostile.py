"""A run in which all that is stored is code, and what would be on the page if some of it were run."""

import time
from pathlib import Path

import numpy as np

from cockpit.panel import Panel
from cockpit.reading import Histogram, Reading
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header, Writer

CODE = "<img src=x onerror=alert(1)>"
LINK = "<a href='javascript:alert(2)'>x</a>"
HOSTILE = f"{CODE}<b>b</b>{LINK}<br>%{{y}}=1+1"
MARKDOWN = "[x](javascript:alert(3)) ![y](http://evil.example/z) **b** $\\alpha$"
FORMULA = f"\\text{{{CODE}}}\n{MARKDOWN}\n\\href{{javascript:alert(4)}}{{x}}\n$$\n{CODE}\n$$"

FOREIGN = """() => [...document.querySelectorAll(
  'img, iframe, object, embed, script:not([src]):not([id^="_dash"]), [onerror], [onload], a[href^="javascript" i], ' +
  '#view svg a, #view b b, .ag-cell b, .ag-cell em, .ag-cell strong, ' +
  '.ag-cell a[href^="http"]'
), ...[...document.querySelectorAll('#view svg tspan[style*="bold"]')].filter(part => part.textContent === 'b')
].filter(element => !element.closest('footer')).map(element => element.outerHTML.slice(0, 200))"""


def write_hostile(runs: Path) -> str:
    """A run in which everything that can be named, noted or said is code; returns its name."""
    name = f"{HOSTILE} {MARKDOWN}".replace("/", "÷")  # a slash would make a directory of it
    kinds = ("lines", "histogram", "gauge", "parabola")
    panels = {
        f"{kind} {CODE}": Panel(
            f"{kind} {HOSTILE}",
            kind,
            HOSTILE,
            ylabel=HOSTILE,
            references=((0.5, HOSTILE),),
            keys=(f"{kind} {CODE}",),
            formula=FORMULA,
            good=HOSTILE,
            bad=MARKDOWN,
            source=LINK,
        )
        for kind in kinds
    }
    users = Panel(HOSTILE, "lines", MARKDOWN, keys=("nothing",), user_metrics=True)
    header = Header(
        name, time.time(), {HOSTILE: HOSTILE, "group": {CODE: MARKDOWN}}, (HOSTILE, MARKDOWN),
        {**panels, "users": users, **PANELS}, SCREENS, {name: {"interval": HOSTILE} for name in panels},
        {"class": HOSTILE, "parameters": [{"name": HOSTILE, "shape": [2], "numel": 2, "module": CODE, "type": CODE}]},
        [{"class": HOSTILE, CODE: HOSTILE}], {"command": HOSTILE},
    )  # fmt: skip
    writer = Writer(runs / name, header, flush_interval=0.05)
    edges = np.linspace(-1, 1, 5)
    for step in range(5):
        readings = {
            panel: Reading(0.1 * step + 0.1, {HOSTILE: 1.0, CODE: 2.0}, reason=HOSTILE if step == 3 else None)
            for panel in panels
        }
        readings[f"histogram {CODE}"] = Reading(
            Histogram(np.arange(4), edges), {HOSTILE: Histogram(np.arange(4), edges)}
        )
        writer.put(step, 0.1 * step, readings)
        writer.scalars(step, 0.1 * step, {HOSTILE + "/train": 1.0, MARKDOWN + "/train": 2.0})
    for kind in ("error", "warning", "info", "learning_rate", "evaluation"):
        writer.event(2, 0.2, kind, HOSTILE, f"lines {CODE}")
    writer.document("coverage", {"share": 0.5, "left_out": {HOSTILE: MARKDOWN}, "routes": {CODE: 1.0}, "coupled": True})
    writer.close()
    return name
