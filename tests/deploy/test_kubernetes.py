"""The Kubernetes files are valid by its schemas, and what they say of each other and of the server is true. Without a cluster."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from asrloop_gateway.settings import Settings

from asrloop.config import ServerSettings
from tests.conftest import ROOT
from tests.deploy.image import instructions
from tests.deploy.overlay import build

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted((FOLDER / "overlays").iterdir())
VERSIONS = ("1.30", "1.37")


def one(resources: list[dict[str, Any]], kind: str, name: str = "asrloop") -> dict[str, Any]:
    (found,) = (each for each in resources if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


@pytest.fixture(params=OVERLAYS, ids=lambda folder: folder.name)
def resources(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return build(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(version: str, resources: list[dict[str, Any]]) -> None:
    kinds = {each["kind"] for each in resources}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"}
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_validator_does_find_a_mistake(resources: list[dict[str, Any]]) -> None:
    deployment = one(resources, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_names_ports_and_labels_fit_together(resources: list[dict[str, Any]]) -> None:
    pod = one(resources, "Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    defaults = ServerSettings()
    assert ports == {"http": defaults.http_port, "grpc": defaults.grpc_port, "metrics": defaults.metrics_port}
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    service = one(resources, "Service")
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    allowed = {port["port"] for rule in one(resources, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == set(ports)
    for selector in (
        one(resources, "Deployment")["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        one(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= pod["metadata"]["labels"].items()
    assert one(resources, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "asrloop"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_the_pod_is_what_the_image_needs(resources: list[dict[str, Any]]) -> None:
    pod = one(resources, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    image = dict(instructions((ROOT / "deploy" / "Dockerfile").read_text()))
    assert str(pod["securityContext"]["runAsUser"]) == image["USER"]
    assert container["livenessProbe"]["exec"]["command"] == ["asrloop", "health"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/dev/shm", "/tmp"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    # Kubernetes would set ASRLOOP_... variables for services of these names, which the server refuses as unknown settings.
    assert pod["enableServiceLinks"] is False
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + ServerSettings().stop_timeout_seconds + 5
    assert container["resources"]["requests"]["cpu"] == container["resources"]["limits"]["cpu"]


def test_the_gateway_is_let_in_and_has_its_keys(resources: list[dict[str, Any]]) -> None:
    pod = one(resources, "Deployment", "asrloop-gateway")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    servers = one(resources, "NetworkPolicy")["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert servers.items() <= pod["metadata"]["labels"].items()
    options = dict(option.lstrip("-").split("=") for option in container["args"][1:])
    service = one(resources, "Service")
    assert options["server"] == f"{service['metadata']['name']}:{service['spec']['ports'][1]['port']}"
    keys = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["keys"]
    assert options["keys-file"] == f"{keys}/keys"
    assert container["ports"][0]["containerPort"] == Settings(keys="k" * 16).port
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["spec"]["terminationGracePeriodSeconds"] > 5 + Settings().drain_seconds
    selector = one(resources, "Service", "asrloop-gateway")["spec"]["selector"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    assert not selector.items() <= one(resources, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert container["image"] == one(resources, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]


def test_the_autoscaler_asks_for_what_the_adapter_gives(resources: list[dict[str, Any]]) -> None:
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]
    metrics = one(resources, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metrics[0]["pods"]["metric"]["name"] == rule["name"]["as"]
    assert set(re.findall(r"<<\.(\w+)>>", rule["metricsQuery"])) == {"GroupBy", "LabelMatchers"}


def test_the_runtime_of_kserve_has_a_valid_pod() -> None:
    runtime = yaml.safe_load((FOLDER / "kserve" / "servingruntime.yaml").read_text())
    service = yaml.safe_load((FOLDER / "kserve" / "inferenceservice.yaml").read_text())
    spec = runtime["spec"]
    assert set(spec) == {
        "annotations", "supportedModelFormats", "protocolVersions", "multiModel", "containers", "volumes",
    }  # fmt: skip
    pod = {"containers": spec["containers"], "volumes": spec["volumes"]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runtime"}, "spec": pod}
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] == spec["supportedModelFormats"][0]["name"]
    assert model["protocolVersion"] in spec["protocolVersions"]


def test_every_file_is_used_or_named_on_the_page() -> None:
    page = (FOLDER / "README.md").read_text()
    used = {path for folder in FOLDER.rglob("kustomization.yaml") for path in _named(folder)}
    for path in FOLDER.rglob("*.yaml"):
        assert path in used or path.name == "kustomization.yaml" or path.name in page or f"{path.parent.name}/" in page


def _named(kustomization: Path) -> list[Path]:
    wanted = yaml.safe_load(kustomization.read_text())
    names = [*wanted["resources"], *(patch["path"] for patch in wanted.get("patches", []))]
    return [kustomization.parent / name for name in names]
