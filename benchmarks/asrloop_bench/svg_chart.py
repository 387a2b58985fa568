"""Small charts as inline SVG: lines over named loads, and stacked bars. Colours come from the page's CSS variables --s1 .. --s6."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
COLOURS = 6

Series = Mapping[str, Sequence[tuple[str, float]]]
"""By name: (label on the x axis, value), every series over the same labels or a part of them."""


def line_chart(series: Series, *, x_title: str, unit: str) -> str:
    """Lines over equally spaced labels; the y axis starts at 0. A point shows its value when pointed at."""
    labels = list(dict.fromkeys(label for points in series.values() for label, _ in points))
    ticks = nice_ticks(max((value for points in series.values() for _, value in points), default=1.0))

    def x(label: str) -> float:
        span = WIDTH - LEFT - RIGHT - 24
        return LEFT + 12 + span * (labels.index(label) / (len(labels) - 1) if len(labels) > 1 else 0.5)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / ticks[-1]

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>'
        for tick in ticks
    ]
    parts += [
        f'<text x="{x(label):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(label)}</text>'
        for label in labels
    ]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    )
    for index, (name, points) in enumerate(series.items()):
        colour = f"var(--s{index % COLOURS + 1})"
        path = " ".join(f"{x(label):.1f},{y(value):.1f}" for label, value in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
        )
        parts += [
            f'<circle cx="{x(label):.1f}" cy="{y(value):.1f}" r="4" fill="{colour}" stroke="var(--surface)" stroke-width="1.5">'
            f"<title>{escape(f'{name}, {label}: {number(value)} {unit}')}</title></circle>"
            for label, value in points
        ]
    return _svg(HEIGHT, parts) + legend(list(series))


def stacked_bars(bars: Mapping[str, Mapping[str, float]], *, unit: str) -> str:
    """One horizontal bar a name, its parts as shares of 100 %; pointing at a part shows its value."""
    names = list(dict.fromkeys(name for parts in bars.values() for name in parts))
    height, left = 24 * len(bars) + 8, 92
    parts = []
    for row, (label, values) in enumerate(bars.items()):
        total, at = sum(values.values()) or 1.0, float(left)
        parts.append(f'<text x="{left - 8}" y="{24 * row + 19}" text-anchor="end">{escape(label)}</text>')
        for name, value in values.items():
            width = (WIDTH - left - 4) * value / total
            parts.append(
                f'<rect x="{at:.1f}" y="{24 * row + 6}" width="{max(0.0, width - 1):.1f}" height="18" rx="2" '
                f'fill="var(--s{names.index(name) % COLOURS + 1})">'
                f"<title>{escape(f'{label}, {name}: {number(value)} {unit} ({value / total:.0%})')}</title></rect>"
            )
            at += width
    return _svg(height, parts) + legend(names)


def legend(names: Sequence[str]) -> str:
    """Names with their colours; nothing for a single one."""
    if len(names) < 2:
        return ""
    keys = (
        f'<span><i style="background:var(--s{index % COLOURS + 1})"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def nice_ticks(top: float) -> list[float]:
    """About four round steps from 0 to at least ``top``."""
    if top <= 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(top / 4))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= top / 4)
    return [step * index for index in range(math.ceil(round(top / step, 9)) + 1)]


def number(value: float) -> str:
    """At most three significant digits, thousands with a thin space."""
    if value >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
