"""Metrics on Triton's own /metrics.

They stay when their model is unloaded. Triton shares a metric among all models that open it, also the old and the new one of a
reload, and the first that lets go frees it under the others: the server then writes into memory that is not its own (#8663).
"""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

from asrloop.engine.metrics import MetricSpec


def metric_families(pb_utils: Any, labels: Mapping[str, str] | None = None) -> Callable[[MetricSpec], "LabelledFamily"]:
    """Return a function that opens the family of a metric, all of whose metrics have ``labels``."""

    def open_family(spec: MetricSpec) -> LabelledFamily:
        kind = getattr(pb_utils.MetricFamily, spec.kind.upper())
        family = pb_utils.MetricFamily(name=spec.name, description=spec.description, kind=kind)
        return LabelledFamily(_kept(family), dict(labels or {}))

    return open_family


class LabelledFamily:
    """A family of metrics that have some labels in common."""

    def __init__(self, family: Any, labels: dict[str, str]) -> None:
        self._family = family
        self._labels = labels

    def Metric(self, labels: dict[str, str], **options: Any) -> Any:  # noqa: N802 - Triton's name for it
        """Return the metric with these labels, too."""
        return _kept(self._family.Metric(labels=self._labels | labels, **options))


def _kept(metric: Any) -> Any:
    """Return it with a reference that nothing takes back, not even the interpreter's end: its destructor frees it in Triton."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(metric))
    return metric
