"""The report of a sweep shows its data and loads nothing."""

from html.parser import HTMLParser
from typing import Any

import pytest
from asrloop_bench.sweep import charts, report

ABOUT: dict[str, Any] = {
    "time": "2026-01-02 03:04:05 +0000",
    "command": ["sweep.py", "--quick"],
    "git_commit": "abc",
    "git_changed": False,
    "machine": {"processor": "A <fast> one", "usable_cores": 2},
    "versions": {},
    "settings": {},
    "quick": True,
    "notes": ["a point was left out"],
}


def point(**changes: Any) -> dict[str, Any]:
    row = {
        "clips": "1 s", "protocol": "grpc", "callers": 1, "rate_share": None, "rate": None, "requests": 10, "throughput": 20.0,
        "audio_seconds_per_second": 20.0, "mean_ms": 50.0, "p50_ms": 48.0, "p90_ms": 60.0, "p95_ms": 70.0, "p99_ms": 80.0,
        "real_time_factor": 0.05, "text": "equal", "mean_queue_seconds": 0.01, "mean_encode_seconds": 0.02,
        "mean_decode_seconds": 0.015, "mean_rows_per_step": 1.5,
    }  # fmt: skip
    return {**row, **changes}


class Outside(HTMLParser):
    """Collects what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_holds_the_points_and_loads_nothing() -> None:
    rows = [
        point(),
        point(callers=16, p99_ms=1234.0, requests=100),
        point(callers=None, rate_share=0.5, rate=12.5),
        point(protocol="http"),
    ]
    page = report.page({"about": ABOUT, "points": rows})
    outside = Outside()
    outside.feed(page)
    text = " ".join(outside.text)
    assert outside.found == []
    shown = ("A <fast> one", "1\u202f234", "12.5/s Poisson", "HTTP", "a point was left out", "--quick")
    for expected in (*shown, "p99, 16: 1\u202f234 ms"):  # the last one when pointed at
        assert expected in text


def test_a_sweep_without_points_still_makes_a_page() -> None:
    assert "a point was left out" in report.page({"about": ABOUT, "points": []})


@pytest.mark.parametrize("top", [0.0, 0.013, 1.0, 7.3, 99.0, 12_345.0])
def test_ticks_reach_the_top_in_few_steps(top: float) -> None:
    ticks = charts.nice_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] >= top
    assert 2 <= len(ticks) <= 6


@pytest.mark.parametrize(
    ("requests", "founded"), [(10, ["p50", "p90"]), (99, ["p50", "p90", "p95"]), (100, ["p50", "p90", "p95", "p99"])]
)
def test_a_percentile_needs_requests_above_it(requests: int, founded: list[str]) -> None:
    assert [name for name in report.PERCENTILES if report.is_founded(point(requests=requests), name)] == founded
    page = report.page({"about": ABOUT, "points": [point(requests=requests, p99_ms=4321.0)]})
    assert ("4\u202f321" in page) == ("p99" in founded)
