"""Writers of matrix multiplications into a graph: in fp32, or in integers with constant activation scales."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from asrloop.families.quantize.layer import Linear
from asrloop.families.quantize.observation import Observation
from asrloop.families.quantize.rounding import integers
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter


@dataclass(frozen=True)
class Windows:
    """Origin of rows that are windows of frames, laid flat."""

    frames: str
    """f32 [1, times, inputs]"""

    index: str
    """i64 [windows, width]: the times in each window."""


class LinearWriter(Protocol):
    """Writes ``x @ matrix + bias`` into a graph and returns the name of the result."""

    def __call__(self, graph: GraphWriter, x: str, layer: Linear, name: str, windows: Windows | None = None) -> str:
        """Write ``layer`` over the value ``x``, whose rows are ``windows``, if given. ``name`` is that of the result."""


@dataclass
class Float32:
    """Writes plain fp32. ``inputs`` keeps the name of each layer's input, for calibration."""

    inputs: dict[str, str] = field(default_factory=dict)

    def __call__(self, graph: GraphWriter, x: str, layer: Linear, name: str, windows: Windows | None = None) -> str:
        self.inputs[name] = x
        matrix = graph.constant(f"{name}.matrix", layer.matrix)
        if layer.bias is None:
            return graph.node("MatMul", [x, matrix], name)
        product = graph.node("MatMul", [x, matrix], f"{name}.product")
        return graph.node("Add", [product, graph.constant(f"{name}.bias", layer.bias)], name)


@dataclass(frozen=True)
class StaticInt8:
    """Writes integers on both sides: activations u8 with one constant scale, weights with one scale a column.

    As the scale is constant, a row's result is the same integers in any batch. ``observed`` are the calibrated
    inputs by layer name, ``greatest`` is the magnitude of the greatest weight. Up to 64, two products of a u8 and an s8 fit into
    16 bits (2 * 255 * 64 = 32640), so that AVX2's multiply-add cannot saturate and gives the same integers as AVX-VNNI and
    AVX-512 VNNI do. Up to 127 only those are exact.
    """

    observed: Mapping[str, Observation]
    greatest: int

    def __call__(self, graph: GraphWriter, x: str, layer: Linear, name: str, windows: Windows | None = None) -> str:
        scale, zero_point = activation_scale(self.observed[name])
        activation = [
            graph.constant(f"{x}.u8.scale", scale, np.float32),
            graph.constant(f"{x}.u8.zero_point", zero_point, np.uint8),
        ]
        if not graph.has(f"{x}.u8"):
            graph.node("QuantizeLinear", [x, *activation], f"{x}.u8")
        values, scales = integers(layer.matrix, self.observed[name].moment, self.greatest)
        weight = [graph.constant(f"{name}.s8", values), graph.constant(f"{name}.scale", scales)]
        inputs = [f"{x}.u8", weight[0], activation[0], weight[1], activation[1]]
        if layer.bias is not None:
            inputs += ["", graph.constant(f"{name}.bias", layer.bias)]
        return graph.node("MatMulIntegerToFloat", inputs, name, domain=CONTRIB)


MARGIN = 1.3
"""Range of activations as a multiple of that in calibration. A clipped outlier harms far more than a coarser step."""


def activation_scale(seen: Observation) -> tuple[float, int]:
    """Return the scale and u8 zero point that cover the range of all components together."""
    least, greatest = MARGIN * min(float(seen.least.min()), 0.0), MARGIN * max(float(seen.greatest.max()), 0.0)
    scale = max(greatest - least, 1e-6) / 255
    return scale, round(-least / scale)


@dataclass(frozen=True)
class RowInt8:
    """Writes as :class:`StaticInt8` does, but divides every row by its greatest magnitude first. For inputs whose size
    differs much from row to row; costs six small nodes more. ``axis`` is that of the rows, all others but the last being 1.
    ``least`` is a magnitude that no negative input exceeds, so that only the positive ones need be compared. ``observed`` is None
    where nothing is calibrated."""

    observed: Mapping[str, Observation] | None
    greatest: int
    axis: int
    least: float | None = None

    def __call__(self, graph: GraphWriter, x: str, layer: Linear, name: str, windows: Windows | None = None) -> str:
        size = f"{x}.size"
        if not graph.has(f"{x}.row.u8"):
            self._size(graph, x, size, windows)
            self._quantize(graph, x, size)
        moment = None if self.observed is None else self.observed[name].moment
        values, scales = integers(layer.matrix, moment, self.greatest)
        weight = graph.constant(f"{name}.s8", values)
        product = graph.node(
            "MatMulIntegerToFloat",
            [f"{x}.row.u8", weight, "unit.scale", graph.constant(f"{name}.scale", scales), "unit.zero_point"],
            f"{name}.product",
            domain=CONTRIB,
        )
        if layer.bias is None:
            return graph.node("Mul", [product, size], name)
        scaled = graph.node("Mul", [product, size], f"{name}.scaled")
        return graph.node("Add", [scaled, graph.constant(f"{name}.bias", layer.bias)], name)

    def _size(self, graph: GraphWriter, x: str, size: str, windows: Windows | None) -> None:
        axis = graph.constant("last_axis", np.array([-1]))
        if windows is not None:  # each frame is in several of them
            frames = graph.node("Abs", [windows.frames], f"{x}.abs")
            sizes = graph.node("ReduceMax", [frames, axis], f"{x}.sizes", keepdims=1)
            taps = graph.node("Gather", [sizes, windows.index], f"{x}.taps", axis=1)
            graph.node("ReduceMax", [taps, graph.constant("tap_axis", np.array([2]))], size, keepdims=0)
        elif self.least is None:
            graph.node("ReduceMax", [graph.node("Abs", [x], f"{x}.abs"), axis], size, keepdims=1)
        else:
            greatest = graph.node("ReduceMax", [x, axis], f"{x}.greatest", keepdims=1)
            graph.node("Max", [greatest, graph.constant("least", self.least, np.float32)], size)

    def _quantize(self, graph: GraphWriter, x: str, size: str) -> None:
        """Quantize by one operator with a scale for each row: to divide first would be another pass over all inputs."""
        scale = graph.node("Mul", [size, graph.constant("unit.scale", 1 / 127, np.float32)], f"{x}.row.scale")
        scales = graph.node("Reshape", [scale, graph.constant("last_axis", np.array([-1]))], f"{x}.row.scales")
        rows = graph.node("Shape", [scales], f"{x}.row.count")
        middle = graph.node("Expand", [graph.constant("unit.zero_point", 128, np.uint8), rows], f"{x}.row.zero_points")
        graph.node("QuantizeLinear", [x, scales, middle], f"{x}.row.u8", axis=self.axis)


@dataclass(frozen=True)
class Choice:
    """Writes by ``special`` the layers whose name ends with ``ending``, and by ``usual`` all others."""

    ending: str
    special: LinearWriter
    usual: LinearWriter

    def __call__(self, graph: GraphWriter, x: str, layer: Linear, name: str, windows: Windows | None = None) -> str:
        writer = self.special if name.endswith(self.ending) else self.usual
        return writer(graph, x, layer, name, windows)
