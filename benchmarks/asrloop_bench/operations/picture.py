"""A picture of the dashboard's main panels, drawn from a Prometheus: for docs/operations.md, where no Grafana can be shown."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment

from asrloop_bench.operations.prometheus import Prometheus
from asrloop_bench.sweep import charts

POINTS = 7
TEMPLATE = Path(__file__).with_name("picture.svg")
SECONDS = "histogram_quantile({share}, sum by (le) (rate(asrloop_{name}_seconds_bucket[15s])))"


def _quantiles(name: str) -> dict[str, str]:
    return {label: SECONDS.format(name=name, share=share) for label, share in (("p50", 0.5), ("p95", 0.95))}


PANELS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Recordings a second, by outcome": ("/s", {"": "sum by (outcome) (rate(asrloop_requests_total[15s])) > 0"}),
    "Seconds of audio a second": ("s/s", {"audio": "sum(rate(asrloop_audio_seconds_total[15s]))"}),
    "Answer, seconds": ("s", _quantiles("answer")),
    "Queue, seconds": ("s", _quantiles("queue")),
    "Lag of live text, seconds": ("s", {"p95": _quantiles("live_lag")["p95"]}),
    "Slots and streams": ("", {"slots in use": "sum(asrloop_slots_in_use)", "streams open": "sum(asrloop_streams_open)"}),
}  # fmt: skip
"""By title: unit, and a query for each line; a line without a name is named after the outcome."""


def drawn(prometheus: Prometheus, began: float, seconds: float) -> str:
    """Return an SVG of the ``seconds`` from ``began``, a moment of time.time(), on."""
    span = {"start": str(began), "end": str(began + seconds), "step": str(seconds / (POINTS - 1))}
    panels = {}
    for title, (unit, queries) in PANELS.items():
        series: dict[str, list[tuple[str, float]]] = {}
        for name, query in queries.items():
            for found in prometheus.ask("query_range", query=query, **span)["result"]:
                line = series.setdefault(name or found["metric"].get("outcome", ""), [])
                line += [(f"{at - began:.0f}", float(value)) for at, value in found["values"] if value != "NaN"]
        panels[title] = charts.lines(series, "seconds", unit)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(panels=panels, width=charts.WIDTH, height=charts.HEIGHT + 40)
