"""Calls from one model to another through Triton (Business Logic Scripting), and what comes with a request."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # ONNX Runtime takes long to load, and only the loop needs it
    from asrloop.onnx_files.sessions import Graph, Tensors


_NOT_LOADED = re.compile(r"Model '[^']*' is not ready|unknown model: '[^']*'")
"""Triton's own words, with a status that a call from model to model does not tell."""


def parameters_of(request: Any) -> dict[str, Any]:
    """Return the parameters of a request."""
    content: dict[str, Any] = json.loads(request.parameters() or "{}")
    return content


def tensors_of(request: Any) -> dict[str, NDArray[Any]]:
    """Return the inputs of a request by name. They die when execute() returns."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def called(
    pb_utils: Any,
    model: str,
    inputs: "Tensors",
    outputs: Sequence[str],
    *,
    parameters: Mapping[str, str | int | bool] | None = None,
    seconds: float = 0.0,
) -> "Tensors":
    """Return the ``outputs`` of another model, none for all, waiting for at most ``seconds``, 0 for no limit.

    Raises NotLoaded, and CallFailed with the model's message.
    """
    options = {"parameters": dict(parameters)} if parameters else {}
    call = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()],
        timeout=round(seconds * 1e6),
        **options,
    )
    response = call.exec()
    if response.has_error():
        message = f"{model}: {response.error().message()}"
        raise NotLoaded(message) if _NOT_LOADED.search(message) else CallFailed(message)
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


class CallFailed(RuntimeError):
    """The other model answered with an error."""


class NotLoaded(CallFailed):
    """Triton's model control unloaded the other model, or it has not loaded it yet."""


def bls_graphs(pb_utils: Any) -> Mapping[str, "Graph"]:
    """Return the encoder and the decoder as graphs that Triton runs (``execution_mode: bls``)."""

    def graph(model: str) -> "Graph":
        def run(inputs: "Tensors", outputs: Sequence[str] = (), /) -> "Tensors":
            return called(pb_utils, model, inputs, outputs)

        return run

    return {model: graph(model) for model in ("encoder", "decoder")}
