"""A picture of the dashboard's main panels, drawn from a Prometheus: for docs/operations.md, where no Grafana can be shown."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment

from asrloop_bench.operations.prometheus import Prometheus
from asrloop_bench.sweep import charts

POINTS = 7
TEMPLATE = Path(__file__).with_name("picture.svg")
PANELS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Recordings a second, by outcome": (
        "/s",
        {"{{outcome}}": "sum by (outcome) (rate(asrloop_requests_total[15s])) > 0"},
    ),
    "Seconds of audio a second": ("s/s", {"audio": "sum(rate(asrloop_audio_seconds_total[15s]))"}),
    "Answer, seconds": (
        "s",
        {
            name: f"histogram_quantile({share}, sum by (le) (rate(asrloop_answer_seconds_bucket[15s])))"
            for name, share in (("p50", 0.5), ("p95", 0.95))
        },
    ),
    "Queue, seconds": (
        "s",
        {
            name: f"histogram_quantile({share}, sum by (le) (rate(asrloop_queue_seconds_bucket[15s])))"
            for name, share in (("p50", 0.5), ("p95", 0.95))
        },
    ),
    "Lag of live text, seconds": (
        "s",
        {"p95": "histogram_quantile(0.95, sum by (le) (rate(asrloop_live_lag_seconds_bucket[15s])))"},
    ),
    "Slots and streams": (
        "",
        {"slots in use": "sum(asrloop_slots_in_use)", "streams open": "sum(asrloop_streams_open)"},
    ),
}
"""By title: unit, and a query for each line; a line may be named after a label."""


def drawn(prometheus: Prometheus, began: float, seconds: float) -> str:
    """An SVG of the time from ``began``, a moment of time.time(), on."""
    step = seconds / (POINTS - 1)
    panels = {}
    for title, (unit, queries) in PANELS.items():
        series: dict[str, list[tuple[str, float]]] = {}
        for name, query in queries.items():
            asked = {"query": query, "start": str(began), "end": str(began + seconds), "step": str(step)}
            for found in prometheus.ask("query_range", **asked)["result"]:
                line = series.setdefault(found["metric"].get("outcome", "") if "{{" in name else name, [])
                line += [(f"{at - began:.0f}", float(value)) for at, value in found["values"] if value != "NaN"]
        panels[title] = charts.lines(series, "seconds", unit)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(panels=panels, width=charts.WIDTH, height=charts.HEIGHT + 40)
