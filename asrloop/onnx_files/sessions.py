"""Running graphs: one callable type for an ONNX Runtime session of this process and for a call to another process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]


class Graph(Protocol):
    """Callable that runs a graph, from inputs by name to outputs by name."""

    def __call__(self, inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        """Run the graph for the named ``outputs``; for all of them when empty."""


Graphs = Mapping[str, Graph]
"""Graphs by name."""


def session_graph(session: ort.InferenceSession) -> Graph:
    """Return a session as a Graph."""
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        wanted = list(outputs or names)
        return dict(zip(wanted, session.run(wanted, dict(inputs)), strict=True))

    return run


def open_graph(path: Path, *, threads: int, memory_arena: bool = True, fuse: bool = False) -> Graph:
    """Open the graph in the file at ``path``; see :func:`open_session`."""
    return session_graph(open_session(path, threads=threads, memory_arena=memory_arena, fuse=fuse))


def open_session(path: Path, *, threads: int, memory_arena: bool = True, fuse: bool = False) -> ort.InferenceSession:
    """Open a CPU session on the ONNX (or ORT-format) file at ``path``.

    ``threads`` is the number of threads of a run, including the calling thread. Worker threads block instead of
    spinning, because encoder, decoder and server share the cores. Without ``memory_arena`` every run frees its scratch
    memory, which suits rare runs of very different sizes. ``fuse`` is for graphs that others made, whose operators are not
    fused. Raises ValueError for ``threads`` below 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}: an ONNX Runtime session needs at least 1")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = memory_arena
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Our graphs are written fused. The extended level would also fuse Add + LayerNormalization, and that kernel is several
    # times slower on the encoder's long sequences.
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fuse else level.ORT_ENABLE_BASIC
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
