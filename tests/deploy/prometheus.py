"""A real Prometheus on a free port, with the project's rules, scraping real servers every second."""

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from asrloop.tritonserver.checks import free_ports
from tests.conftest import ROOT, eventually

CONFIGURATION = ROOT / "deploy" / "prometheus"


class Prometheus:
    """Answers queries."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **parameters: str) -> Any:
        """Of its HTTP interface. Raises OSError, such as for a query that is wrong."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[float]:
        """The values of an instant query."""
        return [float(each["value"][1]) for each in self.ask("query", query=expression)["result"]]

    def rules(self) -> list[Mapping[str, Any]]:
        """All rules and how they fare."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def targets_are_up(self) -> bool:
        """Whether all targets were scraped."""
        try:
            found = self.ask("targets")["activeTargets"]
        except OSError:
            return False
        return bool(found) and all(target["health"] == "up" for target in found)


@contextmanager
def scraping(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Prometheus with prometheus.yml as it is, but for its targets, by job, and how often it looks."""
    settings = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"] = [job for job in settings["scrape_configs"] if job["job_name"] in targets]
    for job in settings["scrape_configs"]:
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    shutil.copy(CONFIGURATION / "rules.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    (port,) = free_ports(1)
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    log = folder / "prometheus.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=sink, stderr=sink
        )
    try:
        prometheus = Prometheus(f"127.0.0.1:{port}")
        assert eventually(prometheus.targets_are_up, 30), log.read_text()
        yield prometheus
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
