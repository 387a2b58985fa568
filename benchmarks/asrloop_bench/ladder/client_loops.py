"""A process of callers for all arms of the ladder: as load/callers.py, and with the decode loop in the client.

Run as a file. Argument: an .npz file with clips f32 [N], 16 kHz.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from asrloop_client import PoolConfig
from asrloop_client.pool import Pool

from asrloop.families.moonshine.decoding import VOCABULARY
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.onnx_files.sessions import Graph, Tensors
from asrloop_bench.load.callers import LONG_MESSAGES, WAYS, Ask, serve
from asrloop_bench.vendor.files import VENDOR_LOOP
from asrloop_bench.vendor.loop import VendorLoop

MOST_CHANNELS = 64
"""More than a process has callers: none waits for a channel, as in the other arms."""

Connections = Callable[[], Any]
"""A context manager around one call, which gives the connection that it goes over."""


def channel_per_call(endpoint: str) -> Callable[[], Ask]:
    """Every call of encoder and decoder opens a channel and closes it."""
    return _loop_in_client(lambda: _connect(endpoint))


def pooled(endpoint: str) -> Callable[[], Ask]:
    """Every call takes a channel from the pool of this project's client, which all callers of the process share."""
    pool = Pool(PoolConfig(min_channels=1, max_channels=MOST_CHANNELS), lambda: _connect(endpoint), grpc_close)
    lock = threading.Lock()  # the client keeps its pool on one thread; here are several

    @contextmanager
    def connection() -> Iterator[grpc.InferenceServerClient]:
        with lock:
            member = pool.take()
        if member is None:
            raise AssertionError("the pool has a channel for every caller")
        try:
            yield member.connection
        finally:
            with lock:
                pool.release(member)

    return _loop_in_client(connection)


def grpc_close(client: grpc.InferenceServerClient) -> None:
    """Close a channel of the pool."""
    client.close()


def _connect(endpoint: str) -> grpc.InferenceServerClient:
    return grpc.InferenceServerClient(endpoint, channel_args=LONG_MESSAGES)


def _loop_in_client(connections: Connections) -> Callable[[], Ask]:
    vocabulary = Vocabulary.read_binary(VENDOR_LOOP / VOCABULARY)
    loop = VendorLoop(_called(connections, "vendor_encoder"), _called(connections, "vendor_decoder"))
    return lambda: lambda samples: vocabulary.text(loop.tokens(samples))


def _called(connections: Connections, model: str) -> Graph:
    """A graph behind a connection; the caller names the outputs it wants."""

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        sent = []
        for name, value in inputs.items():
            tensor = grpc.InferInput(name, value.shape, triton_type(value.dtype.name))
            tensor.set_data_from_numpy(value)
            sent.append(tensor)
        with connections() as client:
            response = client.infer(model, sent, outputs=[grpc.InferRequestedOutput(name) for name in outputs])
        return {name: response.as_numpy(name) for name in outputs}

    return run


def triton_type(dtype: str) -> str:
    """Triton's name of a NumPy type of the vendor's graphs."""
    return {"float32": "FP32", "int64": "INT64", "bool": "BOOL"}[dtype]


if __name__ == "__main__":
    serve({**WAYS, "channel_per_call": channel_per_call, "pooled": pooled}, dict(np.load(sys.argv[1])))
