"""The ladder: six ways to serve the same clips, from a channel per call and a loop in the client to continuous batching."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import tritonclient.grpc as triton
from asrloop_client import AsrClient, PoolConfig

from asrloop.families.graphs import Graph, Tensors
from asrloop.families.vocabulary import Vocabulary
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.interleave import Transcribe
from asrloop_bench.vendor.loop import VendorLoop

RUNGS = {
    "channel_per_call": "a channel per call, loop in the client, vendor graphs",
    "kept_channel": "a kept channel for each caller, loop in the client, vendor graphs",
    "bls": "loop in Triton by BLS, vendor graphs",
    "in_process": "loop in Triton in-process, vendor graphs",
    "clean": "the same with the clean graphs",
    "continuous": "continuous batching (asr_ensemble)",
}
_MODELS = {
    "bls": "ladder_bls",
    "in_process": "ladder_in_process",
    "clean": "ladder_clean",
    "continuous": "asr_ensemble",
}
_OWN_SOCKET = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]

_ONE_CHANNEL = PoolConfig(min_channels=1, max_channels=1)

Caller = Callable[[Clip], str]
"""Transcribes a clip on behalf of one caller."""


@contextmanager
def open_callers(
    endpoint: str, rungs: Sequence[str], count: int, vocabulary: Vocabulary
) -> Iterator[dict[str, list[Caller]]]:
    """``count`` callers for each of ``rungs``; each has a connection of its own where the rung keeps connections."""
    with ExitStack() as stack:
        yield {rung: [_caller(rung, endpoint, vocabulary, stack) for _ in range(count)] for rung in rungs}


def requests_of(made: Mapping[str, Sequence[Caller]], clip: Clip) -> dict[str, list[Transcribe]]:
    """The callers bound to a clip."""
    return {rung: [lambda one=one: one(clip) for one in several] for rung, several in made.items()}  # type: ignore[misc]


def _caller(rung: str, endpoint: str, vocabulary: Vocabulary, stack: ExitStack) -> Caller:
    if rung in _MODELS:
        client = stack.enter_context(AsrClient(endpoint, model=_MODELS[rung], pool=_ONE_CHANNEL))
        return lambda clip: client.transcribe(clip.samples).text
    if rung == "kept_channel":
        kept = stack.enter_context(_connect(endpoint))
        loop = VendorLoop(_called(lambda: kept, "vendor_encoder"), _called(lambda: kept, "vendor_decoder"))
    else:
        loop = VendorLoop(_called_once(endpoint, "vendor_encoder"), _called_once(endpoint, "vendor_decoder"))
    return lambda clip: vocabulary.text(loop.tokens(clip.samples))


def _connect(endpoint: str) -> Any:
    return triton.InferenceServerClient(endpoint, channel_args=_OWN_SOCKET)


def _called(client: Callable[[], Any], model: str) -> Graph:
    """A graph behind a kept connection; the caller names the outputs it wants."""

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        sent = []
        for name, value in inputs.items():
            tensor = triton.InferInput(name, value.shape, triton_type(value.dtype.name))
            tensor.set_data_from_numpy(value)
            sent.append(tensor)
        response = client().infer(model, sent, outputs=[triton.InferRequestedOutput(name) for name in outputs])
        return {name: response.as_numpy(name) for name in outputs}

    return run


def _called_once(endpoint: str, model: str) -> Graph:
    """The same with a connection for every call."""

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        with _connect(endpoint) as client:
            return _called(lambda: client, model)(inputs, outputs)

    return run


def triton_type(dtype: str) -> str:
    """Triton's name of a NumPy type of the vendor's graphs."""
    return {"float32": "FP32", "int64": "INT64", "bool": "BOOL"}[dtype]
