"""Metrics on Triton's own /metrics."""

from collections.abc import Callable, Mapping
from typing import Any

from asrloop.engine.metrics import MetricSpec


def metric_families(pb_utils: Any, labels: Mapping[str, str] | None = None) -> Callable[[MetricSpec], "LabelledFamily"]:
    """Return a function that opens the family of a metric, all of whose metrics have ``labels``."""

    def open_family(spec: MetricSpec) -> LabelledFamily:
        kind = getattr(pb_utils.MetricFamily, spec.kind.upper())
        family = pb_utils.MetricFamily(name=spec.name, description=spec.description, kind=kind)
        return LabelledFamily(family, dict(labels or {}))

    return open_family


class LabelledFamily:
    """A family of metrics that have some labels in common."""

    def __init__(self, family: Any, labels: dict[str, str]) -> None:
        self._family = family
        self._labels = labels

    def Metric(self, labels: dict[str, str], **options: Any) -> Any:  # noqa: N802 - Triton's name for it
        """Return the metric with these labels, too."""
        return self._family.Metric(labels=self._labels | labels, **options)
