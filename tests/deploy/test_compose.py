"""deploy/compose.yaml is valid by the schema of Compose, and its paths, names and ports fit. Without Docker."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from asrloop.config import ServerSettings
from asrloop.wheels import PinnedWheel
from tests.conftest import ROOT
from tests.deploy.image import instructions

DEPLOY = ROOT / "deploy"
SCHEMA = "compose/config/compose_spec.json"
DOCKER_COMPOSE = PinnedWheel(
    name="docker-compose",
    version="1.29.2",
    sha256="8d5589373b35c8d3b1c8c1182c6e4a4ff14bffa3dd0b605fcd08f73c94cef809",
    megabytes=1,
    members=(SCHEMA,),
)
"""The last in Python: it holds the schema."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"])


@pytest.mark.network
def test_it_is_valid() -> None:
    schema = json.loads((DOCKER_COMPOSE.fetch(ROOT / ".cache") / SCHEMA).read_text())
    written = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert written.pop("name") == "asrloop"  # younger than this schema
    jsonschema.Draft7Validator(schema).validate(written)
    written["services"]["server"]["shm_sice"] = "1g"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(written)


def test_what_is_mounted_is_there_and_what_is_read_is_mounted(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
    mounted = {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in mounted
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/asrloop.yml").read_text())["providers"]
    assert Path(home).parent == Path(provider["options"]["path"])


def test_names_ports_and_keys_fit(services: dict[str, Any]) -> None:
    ports, server = ServerSettings(), "server"
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = [target for job in jobs for each in job["static_configs"] for target in each["targets"]]
    assert scraped == [f"{server}:{ports.metrics_port}", "gateway:9000"]
    assert f"--server={server}:{ports.grpc_port}" in services["gateway"]["command"]
    key = f"/run/secrets/{services['gateway']['secrets'][0]}"
    assert f"--keys-file={key}" in services["gateway"]["command"]
    assert jobs[1]["authorization"]["credentials_file"] == key
    assert services["prometheus"]["secrets"] == services["gateway"]["secrets"]
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert set(services) >= {"prometheus", server}
    assert {service.get("image") for service in (services["server"], services["gateway"])} == {"asrloop"}


def test_nothing_listens_beyond_this_machine_and_grace_is_long_enough(services: dict[str, Any]) -> None:
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "ports" not in services["server"]
    grace = {name: int(re.sub("s$", "", services[name]["stop_grace_period"])) for name in ("server", "gateway")}
    assert grace["server"] > ServerSettings().stop_timeout_seconds + 5
    assert grace["gateway"] > 30
    image = dict(instructions((DEPLOY / "Dockerfile").read_text()))
    assert "asrloop" in image["HEALTHCHECK"]
