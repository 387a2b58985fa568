"""The rules are right by promtool, and every query of rules and dashboard finds what a real server under traffic says."""

import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml
from asrloop_bench.operations import picture
from asrloop_bench.operations.gateway import gateway_for, uploaded
from asrloop_bench.operations.prometheus import CONFIGURATION, Prometheus, scraping
from asrloop_client import AsrClient
from numpy.typing import NDArray

from tests.conftest import BECKETT, ROOT, eventually, words
from tests.deploy.playing import spoken
from tests.faults.harness import Serving, Speech, callers

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool: apt-get install prometheus")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
RULES = [
    rule for group in yaml.safe_load((CONFIGURATION / "rules.yml").read_text())["groups"] for rule in group["rules"]
]


def promtool(*arguments: object) -> None:
    told = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@needs_promtool
def test_promtool_finds_no_fault() -> None:
    promtool("check", "config", "--syntax-only", CONFIGURATION / "prometheus.yml")
    promtool("check", "rules", CONFIGURATION / "rules.yml")
    promtool("test", "rules", CONFIGURATION / "rules_test.yml")


@needs_promtool
@pytest.mark.parametrize("name", [rule["alert"] for rule in RULES if "alert" in rule])
def test_the_rules_own_tests_notice_an_alert_that_never_fires_or_always(name: str, tmp_path: Path) -> None:
    for never in (True, False):
        rules = yaml.safe_load((CONFIGURATION / "rules.yml").read_text())
        for rule in (rule for group in rules["groups"] for rule in group["rules"]):
            if rule.get("alert") == name:
                rule["expr"] = f"({rule['expr']}) and vector(1) == 2" if never else "vector(1)"
        (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
        shutil.copy(CONFIGURATION / "rules_test.yml", tmp_path)
        with pytest.raises(AssertionError, match=name):
            promtool("test", "rules", tmp_path / "rules_test.yml")


def test_every_alert_has_a_page_on_what_to_do() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    headings = {line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")}
    for rule in RULES:
        if "alert" in rule:
            page, _, anchor = rule["annotations"]["runbook"].partition("#")
            assert page == "docs/operations.md"
            assert anchor in headings, f"{rule['alert']}: no heading {anchor}"


def queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard, with the panel that shows it."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


QUIET = {
    "Alerts", "Restarts", "Restarts, 24 h", "Share refused, late or failed", "Failures by model and reason",
    "Streams", "Open streams", "Slots in use",
}  # fmt: skip
"""Panels that show zeros, or nothing, when all is well and traffic is over."""


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
    speech: Speech,
    beckett: NDArray[np.float32],
    model_repository: Path,
) -> Iterator[tuple[Prometheus, Serving]]:
    """A server with some seconds of all kinds of traffic behind it."""
    if not shutil.which("prometheus"):
        pytest.skip("needs prometheus: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    serving = Serving(folder / "serve.log")
    try:
        serving.wait(speech)
        with (
            gateway_for(serving.address) as gateway,
            scraping({"asrloop": [f"127.0.0.1:{serving.metrics}"], "asrloop-gateway": [gateway]}) as prometheus,
        ):
            with (
                callers(serving.address, speech, 2),
                AsrClient(serving.address) as client,
                client.stream(spoken(beckett)) as events,
            ):
                said = [event.text for event in events if event.final]
                assert client.transcribe(np.zeros(16000, np.float32)).text == "", "an odd transcript"
            assert words(" ".join(said)) == BECKETT
            ended = 'rate(asrloop_streams_total{outcome="ok"}[1m]) > 0'
            assert eventually(lambda: prometheus.query(ended), 30)
            passed = 'rate(asrloop_gateway_requests_total{status="200"}[1m]) > 0'
            # A counter of the gateway begins with the first request it counts, so one alone is no rate.
            assert eventually(lambda: uploaded(gateway, speech.file) == "upload well" and prometheus.query(passed), 30)
            assert eventually(lambda: prometheus.query("asrloop:final_seconds:p95_5m"), 30)
            yield prometheus, serving
    finally:
        serving.stop()


def test_every_query_of_the_dashboard_finds_numbers(measured: tuple[Prometheus, Serving]) -> None:
    prometheus, _ = measured
    found: dict[tuple[str, str], list[float]] = {}
    for panel, query in queries():
        filled = query.replace("$instance", ".*").replace("$__rate_interval", "1m")
        assert "$" not in filled
        found[panel, query] = prometheus.query(filled)
    for (panel, query), values in found.items():
        assert values or panel == "Restarts", f"{panel}: nothing for {query}"
        assert all(map(math.isfinite, values)), f"{panel}: {values} for {query}"
    assert {
        panel for panel, _ in found if not any(any(values) for (name, _), values in found.items() if name == panel)
    } <= QUIET


def test_the_picture_has_a_line_in_every_panel(measured: tuple[Prometheus, Serving]) -> None:
    drawn = ET.fromstring(picture.drawn(measured[0], time.time() - 12, 12))
    panels = drawn.findall("{http://www.w3.org/2000/svg}g")
    assert len(panels) == len(picture.PANELS)
    for panel in panels:
        lines = panel.findall(".//{http://www.w3.org/2000/svg}polyline")
        assert any(len(line.attrib["points"].split()) > 1 for line in lines), panel[0].text


def test_every_rule_is_well_and_every_recording_rule_has_numbers(measured: tuple[Prometheus, Serving]) -> None:
    prometheus, _ = measured
    loaded = prometheus.rules()
    assert {rule["name"] for rule in loaded} == {rule.get("record") or rule.get("alert") for rule in RULES}
    assert [rule for rule in loaded if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in loaded if rule["type"] == "recording" and not prometheus.query(rule["name"])] == []
    assert [rule["name"] for rule in loaded if rule.get("state") == "firing"] == []


def test_the_autoscalers_query_finds_a_number(measured: tuple[Prometheus, Serving]) -> None:
    prometheus, _ = measured
    adapter = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "prometheus-adapter.yaml").read_text())
    for rule in adapter["rules"]:
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "instance").replace("<<.LabelMatchers>>", 'job="asrloop"')
        (value,) = prometheus.query(query)
        assert value > 0


def test_a_dead_server_is_noticed(measured: tuple[Prometheus, Serving], speech: Speech) -> None:
    prometheus, serving = measured

    def state(alert: str) -> Any:
        return next(rule["state"] for rule in prometheus.rules() if rule["name"] == alert)

    serving.stop()
    assert eventually(lambda: state("AsrServerDown") == "pending", 30)
    serving.start()
    serving.wait(speech)
    assert eventually(lambda: state("AsrServerDown") == "inactive", 30)


def test_a_server_that_was_started_anew_is_noticed(measured: tuple[Prometheus, Serving], speech: Speech) -> None:
    prometheus, serving = measured
    assert eventually(lambda: prometheus.query("asrloop_restarts_total") == [0.0], 30)
    os.kill(serving.server, signal.SIGKILL)
    assert eventually(lambda: prometheus.query("asrloop_restarts_total") == [1.0], 60)
    assert eventually(
        lambda: any(r["name"] == "AsrServerRestarts" and r["state"] == "firing" for r in prometheus.rules()), 30
    )
