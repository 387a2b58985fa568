"""A real Prometheus on a free port, with the project's rules, scraping what is named."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from asrloop.tritonserver.checks import free_ports
from asrloop.tritonserver.install import TritonError
from asrloop_bench.checkout import ROOT

CONFIGURATION = ROOT / "deploy" / "prometheus"
START_SECONDS = STOP_SECONDS = 30.0


class Prometheus:
    """Answers queries at ``address``, host:port."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **parameters: str) -> Any:
        """What its HTTP interface says. Raises OSError, such as for a query that is wrong."""
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
def scraping(targets: Mapping[str, Sequence[str]], every: str = "1s") -> Iterator[Prometheus]:
    """Prometheus with the project's prometheus.yml as it is, but for its targets, by job, and how often it looks.

    Raises TritonError where there is none or it does not come up.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise TritonError("prometheus is not on PATH; install it (Debian, Ubuntu: apt-get install prometheus)")
    with tempfile.TemporaryDirectory(prefix="prometheus-") as scratch:
        folder = Path(scratch)
        settings = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8"))
        settings["global"] = {"scrape_interval": every, "evaluation_interval": every}
        settings["scrape_configs"] = [job for job in settings["scrape_configs"] if job["job_name"] in targets]
        for job in settings["scrape_configs"]:
            job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
            job.pop("authorization", None)  # what runs here listens on the loopback and wants no key
        shutil.copy(CONFIGURATION / "rules.yml", folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        (port,) = free_ports(1)
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        log = folder / "prometheus.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [program, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=sink, stderr=sink
            )
        try:
            prometheus, until = Prometheus(f"127.0.0.1:{port}"), time.monotonic() + START_SECONDS
            while not prometheus.targets_are_up():
                if time.monotonic() > until or process.poll() is not None:
                    raise TritonError(
                        f"Prometheus has not scraped its targets after {START_SECONDS:g} s: {log.read_text()}"
                    )
                time.sleep(0.1)
            yield prometheus
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
