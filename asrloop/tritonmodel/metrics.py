"""Metrics on Triton's own /metrics."""

from collections.abc import Callable
from typing import Any

from asrloop.engine.metrics import MetricSpec


def metric_families(pb_utils: Any) -> Callable[[MetricSpec], Any]:
    """Return a function that opens the family of a metric."""

    def open_family(spec: MetricSpec) -> Any:
        kind = getattr(pb_utils.MetricFamily, spec.kind.upper())
        return pb_utils.MetricFamily(name=spec.name, description=spec.description, kind=kind)

    return open_family
