"""How numbers, shares and names are written beside a drawing."""

from __future__ import annotations

import math


def shorten(text: str, length: int) -> str:
    """``text``, cut to ``length`` characters with an ellipsis in the middle, where names differ least."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def number(value: float) -> str:
    """Four significant digits, as a person would write them."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent; a small share stays visible as such. ``whole`` is positive."""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "under 0.1 %"
    if 99.9 < percent < 100:
        return "over 99.9 %"
    return f"{percent:.1f} %" if percent < 10 and percent != round(percent) else f"{percent:.0f} %"
