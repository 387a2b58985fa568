"""A process of callers for all arms of the ladder: as load/callers.py, and with the decode loop in the client.

Run as a file. Argument: an .npz file with clips f32 [N], 16 kHz.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import tritonclient.grpc as grpc
from asrloop_client import PoolConfig
from asrloop_client.pool import Pool
from tritonclient.utils import np_to_triton_dtype

from asrloop.families.moonshine.decoding import VOCABULARY
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.onnx_files.sessions import Graph, Tensors
from asrloop_bench.load.callers import LONG_MESSAGES, WAYS, Ask, serve
from asrloop_bench.vendor import VENDOR_LOOP, VendorLoop

MOST_CHANNELS = 64
"""More than a process has callers: none waits for a channel, as in the other arms."""
Connections = Callable[[], AbstractContextManager[grpc.InferenceServerClient]]


def channel_per_call(endpoint: str) -> Callable[[], Ask]:
    """Open a channel for every call of encoder and decoder, and close it."""
    return _loop_in_client(lambda: _connect(endpoint))


def pooled(endpoint: str) -> Callable[[], Ask]:
    """Take a channel for every call from the pool of this project's client, which all callers of the process share."""
    config = PoolConfig(min_channels=1, max_channels=MOST_CHANNELS)
    pool = Pool(config, lambda: _connect(endpoint), lambda client: client.close())
    lock = threading.Lock()  # the client keeps its pool on one thread; here are several

    @contextmanager
    def connection() -> Iterator[grpc.InferenceServerClient]:
        with lock:
            member = pool.take()
        assert member is not None, "the pool has a channel for every caller"  # noqa: S101
        try:
            yield member.connection
        finally:
            with lock:
                pool.release(member)

    return _loop_in_client(connection)


def _connect(endpoint: str) -> grpc.InferenceServerClient:
    return grpc.InferenceServerClient(endpoint, channel_args=LONG_MESSAGES)


def _loop_in_client(connections: Connections) -> Callable[[], Ask]:
    vocabulary = Vocabulary.read_binary(VENDOR_LOOP / VOCABULARY)
    loop = VendorLoop(_called(connections, "vendor_encoder"), _called(connections, "vendor_decoder"))
    return lambda: lambda samples: vocabulary.text(loop.tokens(samples))


def _called(connections: Connections, model: str) -> Graph:
    """Return a graph behind a connection; the caller names the outputs it wants."""

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        sent = []
        for name, value in inputs.items():
            sent.append(grpc.InferInput(name, value.shape, np_to_triton_dtype(value.dtype)))
            sent[-1].set_data_from_numpy(value)
        with connections() as client:
            response = client.infer(model, sent, outputs=[grpc.InferRequestedOutput(name) for name in outputs])
        return {name: response.as_numpy(name) for name in outputs}

    return run


if __name__ == "__main__":
    serve({**WAYS, "channel_per_call": channel_per_call, "pooled": pooled}, dict(np.load(sys.argv[1])))
