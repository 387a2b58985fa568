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
from tests.deploy.cluster import Pod, may_reach, pod_of, selects
from tests.deploy.image import instructions
from tests.deploy.manifests import FOLDER, OVERLAYS, build, can_build, one, read

VERSIONS = ("1.30", "1.37")
needs_kubectl = pytest.mark.skipif(not can_build(), reason="needs kubectl, whose kustomize builds the overlays")
BASE = FOLDER / "base"


@pytest.fixture(
    params=[BASE, *(pytest.param(each, marks=needs_kubectl) for each in OVERLAYS)], ids=lambda folder: folder.name
)
def resources(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Those of the base, and of each overlay where kubectl is there to build it."""
    return read(BASE) if request.param == BASE else build(request.param)


@needs_kubectl
def test_the_base_is_what_its_files_say() -> None:
    def by_name(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(resources, key=lambda each: (each["kind"], each["metadata"]["name"]))

    assert by_name(build(BASE)) == by_name(read(BASE))


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


def test_names_and_ports_are_those_of_the_server(resources: list[dict[str, Any]]) -> None:
    pod = one(resources, "Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    defaults = ServerSettings()
    assert ports == {"http": defaults.http_port, "grpc": defaults.grpc_port, "metrics": defaults.metrics_port}
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


SERVER, GATEWAY = "asrloop", "asrloop-gateway"
STRANGER = Pod({"app.kubernetes.io/name": "else"})
CALLER = Pod({"app.kubernetes.io/name": "else", "asrloop-client": "true"})
PROMETHEUS = Pod({"app.kubernetes.io/name": "prometheus"}, is_here=False)


def pods(resources: list[dict[str, Any]]) -> dict[str, Pod]:
    """A pod of each Deployment, by its name, and one that is not ours."""
    ours = {each["metadata"]["name"]: pod_of(each) for each in resources if each["kind"] == "Deployment"}
    assert set(ours) == {SERVER, GATEWAY}
    return {**ours, "else": STRANGER}


def test_who_may_reach_whom_on_which_port(resources: list[dict[str, Any]]) -> None:
    all_pods = pods(resources)
    server, gateway = all_pods[SERVER], all_pods[GATEWAY]

    def reached(source: Pod, target: Pod, *ports: str) -> list[str]:
        return [port for port in ports if may_reach(resources, source, target, port)]

    ports = ("http", "grpc", "metrics")
    assert reached(gateway, server, *ports) == ["http", "grpc"]
    assert reached(CALLER, server, *ports) == ["http", "grpc"]
    assert reached(PROMETHEUS, server, *ports) == ["metrics"]
    assert reached(STRANGER, server, *ports) == []
    assert reached(Pod(CALLER.labels, is_here=False), server, *ports) == []
    assert reached(server, server, *ports) == []
    # Callers of the gateway bring keys, and its Ingress may be in any namespace.
    for source in (STRANGER, PROMETHEUS, Pod({}, is_here=False)):
        assert reached(source, gateway, "gateway", "else") == ["gateway"]
    # Other pods of the namespace are not ours to close.
    assert reached(Pod({}, is_here=False), STRANGER, "http") == ["http"]


def test_every_selector_selects_its_own_pods_and_no_others(resources: list[dict[str, Any]]) -> None:
    def selected(selector: dict[str, Any] | None) -> list[str]:
        return [name for name, pod in pods(resources).items() if selects(selector, pod)]

    for name in (SERVER, GATEWAY):
        deployment, service = one(resources, "Deployment", name), one(resources, "Service", name)
        assert selected(deployment["spec"]["selector"]) == [name]
        assert selected({"matchLabels": service["spec"]["selector"]}) == [name]
        assert selected(one(resources, "PodDisruptionBudget", name)["spec"].get("selector")) == [name]
        assert selected(one(resources, "NetworkPolicy", name)["spec"]["podSelector"]) == [name]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        named = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == named
        allowed = {
            port["port"] for rule in one(resources, "NetworkPolicy", name)["spec"]["ingress"] for port in rule["ports"]
        }
        assert allowed == named
        for constraint in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert selected(constraint["labelSelector"]) == [name]


def test_the_autoscaler_scales_a_deployment_that_leaves_it_the_number(resources: list[dict[str, Any]]) -> None:
    scaled = one(resources, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    deployment = one(resources, scaled["kind"], scaled["name"])
    assert deployment["apiVersion"] == scaled["apiVersion"]
    assert "replicas" not in deployment["spec"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "cpu" in container["resources"]["requests"], "utilization is a share of the request"


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


def test_the_gateway_finds_the_servers_and_its_keys(resources: list[dict[str, Any]]) -> None:
    pod = one(resources, "Deployment", "asrloop-gateway")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    options = dict(option.lstrip("-").split("=") for option in container["args"][1:])
    service = one(resources, "Service")
    assert options["server"] == f"{service['metadata']['name']}:{service['spec']['ports'][1]['port']}"
    keys = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["keys"]
    assert options["keys-file"] == f"{keys}/keys"
    assert container["ports"][0]["containerPort"] == Settings(keys="k" * 16).port
    assert pod["spec"]["enableServiceLinks"] is False
    assert pod["spec"]["terminationGracePeriodSeconds"] > 5 + Settings().drain_seconds
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
