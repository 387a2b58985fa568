"""Positions of the marks of small charts, which report.html draws: lines over named loads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 12, 40

Series = Mapping[str, Sequence[tuple[str, float]]]
"""By name: (label on the x axis, value), every series over the same labels or a part of them."""


def lines(series: Series, x_title: str, unit: str) -> dict[str, Any]:
    """Place lines over equally spaced labels; the y axis starts at 0."""
    labels = list(dict.fromkeys(label for points in series.values() for label, _ in points))
    ticks = nice_ticks(max((value for points in series.values() for _, value in points), default=1.0))
    places = [index / (len(labels) - 1) for index in range(len(labels))] if len(labels) > 1 else [0.5]
    x = {label: round(LEFT + (WIDTH - LEFT - RIGHT) * place, 1) for label, place in zip(labels, places, strict=False)}

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / ticks[-1], 1)

    return {
        "x_title": x_title,
        "labels": [(x[label], label) for label in labels],
        "ticks": [(y(tick), number(tick)) for tick in ticks],
        "series": {
            name: [(x[label], y(value), f"{name}, {label}: {number(value)} {unit}") for label, value in points]
            for name, points in series.items()
        },
    }


def nice_ticks(top: float) -> list[float]:
    """Return about four round steps from 0 to at least ``top``."""
    if top <= 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(top / 4))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= top / 4)
    return [step * index for index in range(math.ceil(round(top / step, 9)) + 1)]


def number(value: float) -> str:
    """Format a number with at most three significant digits, thousands with a thin space."""
    if value >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
