"""A server of another tree, started by that tree's own command, which every commit has."""

from collections.abc import Iterator
from contextlib import contextmanager

from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.compare.tree import Tree, TreeError, environment

START_SECONDS = 120.0


@contextmanager
def served(tree: Tree) -> Iterator[str]:
    """Give the gRPC address of a server of ``tree`` on free ports, with the settings of its own config.yaml. Raises TreeError."""
    http, grpc, metrics = free_ports()
    command = [str(tree.python), "scripts/serve.py", f"--http-port={http}", f"--grpc-port={grpc}"]
    command += [f"--metrics-port={metrics}", "--host=127.0.0.1", "--log-level=error"]
    url = f"http://127.0.0.1:{http}/v2/models/asr_ensemble/ready"
    with processes.running(
        f"the server of {tree.name}", command, lambda _: processes.answers(url),
        seconds=START_SECONDS, environment=environment(), folder=tree.folder, error=TreeError,
    ):  # fmt: skip
        yield f"127.0.0.1:{grpc}"
