"""What a cluster makes of the manifests: which pods a selector selects, and who may reach whom on which port.

The rules are those of the API reference: NetworkPolicy (networking.k8s.io/v1) and PodDisruptionBudget (policy/v1).
"""

from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod as selectors and policies see it."""

    labels: dict[str, str]
    is_here: bool = True
    """False when it is in another namespace than the manifests."""


def pod_of(deployment: Resource) -> Pod:
    """Return a pod of a Deployment."""
    return Pod(deployment["spec"]["template"]["metadata"].get("labels", {}))


def selects(selector: Resource | None, pod: Pod) -> bool:
    """Return whether a label selector selects the pod: without a selector none is, by an empty one all are."""
    if selector is None:
        return False
    if set(selector) - {"matchLabels"}:
        raise ValueError(f"{selector}: a part of selectors that is not known here")
    return selector.get("matchLabels", {}).items() <= pod.labels.items()


def may_reach(resources: list[Resource], source: Pod, target: Pod, port: str) -> bool:
    """Return whether the policies let `source` connect to the named port of `target`, a pod of the manifests' namespace."""
    policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]
    closing = [each for each in policies if selects(each["podSelector"], target) and "Ingress" in each["policyTypes"]]
    rules = [rule for policy in closing for rule in policy.get("ingress", [])]
    return not closing or any(_opens(rule, source, port) for rule in rules)


def _opens(rule: Resource, source: Pod, port: str) -> bool:
    """A rule without `from` is for every source, one without `ports` for every port."""
    ports, peers = rule.get("ports"), rule.get("from")
    return (not ports or any(each["port"] == port for each in ports)) and (
        not peers or any(_is_peer(each, source) for each in peers)
    )


def _is_peer(peer: Resource, source: Pod) -> bool:
    """A peer's podSelector is for its own namespace, unless a namespaceSelector is beside it."""
    if set(peer) - {"podSelector", "namespaceSelector"} or peer.get("namespaceSelector", {}):
        raise ValueError(f"{peer}: a kind of peer that is not known here")
    return (source.is_here or "namespaceSelector" in peer) and selects(peer.get("podSelector", {}), source)
