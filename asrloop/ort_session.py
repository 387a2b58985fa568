"""ONNX Runtime sessions as the engine needs them: a fixed number of threads that sleep when idle, and no hidden memory growth."""

from pathlib import Path

import onnxruntime as ort


def open_session(path: Path, *, threads: int, memory_arena: bool = True) -> ort.InferenceSession:
    """A CPU session on the ONNX (or ORT-format) file at ``path``.

    ``threads`` is the number of threads one run may use, the calling thread among them. Worker threads block instead of
    spinning, because encoder, decoder and server share the cores. Without ``memory_arena`` every run gives its scratch
    memory back, which suits rare runs of very different sizes.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; an ONNX Runtime session needs at least 1")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = memory_arena
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The graphs are written fused. The extended level would only fuse Add + LayerNormalization again, whose fused kernel
    # is several times slower on the encoder's long sequences.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
