"""A real Prometheus on a free port, with the project's rules, scraping given targets."""

import json
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from asrloop.tritonserver.checks import free_ports
from asrloop.tritonserver.install import TritonError
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

CONFIGURATION = ROOT / "deploy" / "prometheus"
START_SECONDS = 30.0


class Prometheus(NamedTuple):
    """Answers queries at ``address``, host:port."""

    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its HTTP interface. Raises OSError, such as for a query that is wrong."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[float]:
        return [float(each["value"][1]) for each in self.ask("query", query=expression)["result"]]

    def rules(self) -> list[Mapping[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def targets_are_up(self) -> bool:
        try:
            found = self.ask("targets")["activeTargets"]
        except OSError:
            return False
        return bool(found) and all(target["health"] == "up" for target in found)


@contextmanager
def scraping(targets: Mapping[str, Sequence[str]], every: str = "1s") -> Iterator[Prometheus]:
    """Run Prometheus with the project's prometheus.yml, but with these targets, by job, and this interval.

    Raises TritonError where it is not installed or does not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise TritonError("prometheus is not on PATH; install it (Debian, Ubuntu: apt-get install prometheus)")
    with tempfile.TemporaryDirectory(prefix="prometheus-") as folder:
        settings = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8"))
        settings["global"] = {"scrape_interval": every, "evaluation_interval": every}
        settings["scrape_configs"] = [job for job in settings["scrape_configs"] if job["job_name"] in targets]
        for job in settings["scrape_configs"]:
            job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
            job.pop("authorization", None)  # these targets listen on the loopback and want no key
        shutil.copy(CONFIGURATION / "rules.yml", folder)
        Path(folder, "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        address = f"127.0.0.1:{free_ports(1)[0]}"
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command.append(f"--web.listen-address={address}")
        prometheus = Prometheus(address)
        with processes.running("Prometheus", command, lambda _: prometheus.targets_are_up(), seconds=START_SECONDS):
            yield prometheus
