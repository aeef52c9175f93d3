"""Counts of pairs as colours, and the histograms of either number above and beside them, as they stood at one step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import ROW_HEIGHT, Drawing, Json, Palette, axis, base_layout, number, typed
from cockpit.drawing.bars import samples_at
from cockpit.drawing.pairs import Pairs, pairs_at, words_of_pairs

WIDE, HIGH = 0.84, 0.76  # of the figure, for the colours; the rest is for the marginals
GAP = 0.02


def draw_histogram2d(scene: Scene) -> Drawing:
    """The scene's histograms of pairs at its step, one below the other, the first number across, the second upwards."""
    shown = [pairs for key in scene.keys if (pairs := pairs_at(scene.column(key), scene.step)) is not None]
    if not shown:
        return Drawing(empty_figure(scene), empty=scene.clock or "The histogram is missing at this step.")
    layout = base_layout(scene.colours, left=56) | {"bargap": 0}
    traces: list[Json] = []
    for index, pairs in enumerate(shown):
        strip = 1 - (index + 1) / len(shown), 1 - index / len(shown) - (0.12 if index else 0)
        names = [str(place) if place > 1 else "" for place in range(3 * index + 1, 3 * index + 4)]
        traces += [
            _colours(pairs, scene, top=strip[1]) | {"xaxis": f"x{names[0]}", "yaxis": f"y{names[0]}"},
            _marginal(pairs, 0, scene.colours) | {"xaxis": f"x{names[1]}", "yaxis": f"y{names[1]}"},
            _marginal(pairs, 1, scene.colours) | {"xaxis": f"x{names[2]}", "yaxis": f"y{names[2]}"},
        ]
        layout |= _axes(pairs, names, strip, scene)
    words = "; ".join(words_of_pairs(pairs, samples_at(scene.columns, pairs.key, pairs.step)) for pairs in shown)
    return Drawing({"data": traces, "layout": layout}, words=words, height=int(1.35 * ROW_HEIGHT) * len(shown))


def _colours(pairs: Pairs, scene: Scene, top: float) -> Json:
    """Counts, by their logarithms where the panel is logarithmic; where there are none the paper shows.

    Args:
        pairs: The histogram.
        scene: Gives the colours.
        top: Where the legend hangs, as a share of the figure's height.
    """
    counts = pairs.histogram.counts.T
    with np.errstate(divide="ignore"):
        shade = np.where(counts > 0, np.log10(counts) if scene.log else counts, np.nan)
    most = max(2, int(counts.max(initial=0)))
    ends = {"zmin": -0.3, "zmax": float(np.log10(most))} if scene.log else {"zmin": 0, "zmax": most}
    return {
        "type": "heatmap",
        "x": typed(pairs.histogram.x_edges),
        "y": typed(pairs.histogram.y_edges),
        "z": typed(shade.astype(np.float32)),
        "text": _hover(pairs),
        "hovertemplate": "%{text}<extra></extra>",
        "hoverongaps": False,
        "colorscale": [[0, scene.colours.run_ghost], [0.7, scene.colours.run], [1, scene.colours.ink]],
        "colorbar": _legend(most, top, scene),
        **ends,
    }


def _legend(most: int, top: float, scene: Scene) -> Json:
    """What the colours mean, in the corner that the marginals leave free: the fewest pairs of a bin and the most."""
    power = int(np.log10(most))
    powers = {0: "1"} | ({power: f"10<sup>{power}</sup>"} if power else {})
    ends = powers if scene.log else {0: "0", most: number(most)}
    font = {"size": 10, "color": scene.colours.muted}
    return {
        "orientation": "h",
        "lenmode": "fraction",
        "len": 1 - WIDE - GAP,
        "thickness": 8,
        "x": 1,
        "xanchor": "right",
        "xpad": 0,
        "y": top,
        "yanchor": "top",
        "ypad": 0,
        "outlinewidth": 0,
        "tickvals": list(ends),
        "ticktext": list(ends.values()),
        "tickfont": font,
        "title": {"text": "pairs", "side": "top", "font": font},
    }


def _hover(pairs: Pairs) -> list[list[str]]:
    x, y = ([number(edge) for edge in edges.tolist()] for edges in (pairs.histogram.x_edges, pairs.histogram.y_edges))
    return [
        [f"{x[i]} to {x[i + 1]}<br>{y[j]} to {y[j + 1]}: {count:,}" if count else "" for i, count in enumerate(row)]
        for j, row in enumerate(pairs.histogram.counts.T.tolist())
    ]


def _marginal(pairs: Pairs, which: int, colours: Palette) -> Json:
    """The histogram of one of the numbers: upright above the colours, lying beside them."""
    histogram = pairs.histogram.marginals[which]
    centres, width = (histogram.edges[:-1] + histogram.edges[1:]) / 2, np.diff(histogram.edges)
    along, across, at, total = ("x", "y", "%{x:.3g}", "%{y:,}") if which == 0 else ("y", "x", "%{y:.3g}", "%{x:,}")
    return {
        "type": "bar",
        "orientation": "v" if which == 0 else "h",
        along: typed(centres),
        across: typed(histogram.counts),
        "width": typed(width),
        "marker": {"color": colours.run, "line": {"width": 0}},
        "hovertemplate": f"around {at}: {total}<extra></extra>",
    }


def _axes(pairs: Pairs, names: list[str], strip: tuple[float, float], scene: Scene) -> Json:
    """The axes of one histogram.

    Those of the pairs have no range of their own: they end with the bins, which may differ from step to step, until the
    reader zooms.
    """
    colours, (bottom, top) = scene.colours, strip
    split = bottom + HIGH * (top - bottom)
    main, above, beside = names
    first, second = scene.panel.xlabel or "first number", scene.panel.ylabel or "second number"
    hidden: Json = {"showticklabels": False, "showgrid": False, "fixedrange": True}
    ups, acrosses = (_reach(histogram.counts, scene.log) for histogram in pairs.histogram.marginals)
    return {
        f"xaxis{main}": axis(colours, first, anchor=f"y{main}", domain=[0, WIDE]),
        f"yaxis{main}": axis(colours, second, anchor=f"x{main}", domain=[bottom, split], nticks=6),
        f"xaxis{above}": axis(colours, anchor=f"y{above}", domain=[0, WIDE], matches=f"x{main}", **hidden),
        f"yaxis{above}": axis(colours, anchor=f"x{above}", domain=[split + GAP, top], **hidden, **ups),
        f"xaxis{beside}": axis(colours, anchor=f"y{beside}", domain=[WIDE + GAP, 1], **hidden, **acrosses),
        f"yaxis{beside}": axis(colours, anchor=f"x{beside}", domain=[bottom, split], matches=f"y{main}", **hidden),
    }


def _reach(counts: NDArray[np.int64], log: bool) -> Json:
    """Counts from 0, or logarithms up to the total, which hardly changes: the axis then stands still in a replay."""
    if not log:
        return {"type": "linear", "rangemode": "tozero"}
    return {"type": "log", "range": [-0.3, float(np.log10(1.3 * max(2, int(counts.sum()))))]}
