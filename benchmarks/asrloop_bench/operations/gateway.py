"""`asrloop gateway` as a process of its own, as an operator starts it, and uploads of files to its OpenAI API."""

import http.client
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

START_SECONDS, LIMIT_SECONDS = 90.0, 60.0


@contextmanager
def gateway_for(grpc: str, **settings: str) -> Iterator[str]:
    """Run `asrloop gateway` before the server at ``grpc``, with ``settings`` and on a free port; gives host:port.

    Raises TritonError where it does not start.
    """
    (port,) = free_ports(1)
    variables = {f"ASRLOOP_GATEWAY_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "asrloop.cli", "gateway", f"--server={grpc}", f"--port={port}"]
    with processes.running(
        "asrloop gateway", command, lambda written: "Ctrl-C stops it" in written,
        seconds=START_SECONDS, environment={**os.environ, **variables}, folder=ROOT,
    ):  # fmt: skip
        yield f"127.0.0.1:{port}"


class Refused(RuntimeError):
    def __init__(self, status: int, content: object) -> None:
        super().__init__(f"the gateway answered {status}: {content}")
        self.status = status


class Upload:
    """A file and a connection that is kept; each call sends the file and returns its text."""

    def __init__(self, address: str, file: bytes, headers: Mapping[str, str] | None = None) -> None:
        mark = uuid.uuid4().hex
        parts = [
            b'Content-Disposition: form-data; name="model"\r\n\r\nasrloop',
            b'Content-Disposition: form-data; name="file"; filename="speech.wav"\r\n\r\n' + file,
        ]
        self._body = b"".join(f"--{mark}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{mark}--\r\n".encode()
        self._headers = {"Content-Type": f"multipart/form-data; boundary={mark}", **(headers or {})}
        self._connection = http.client.HTTPConnection(address, timeout=LIMIT_SECONDS)

    def __call__(self) -> str:
        self._connection.request("POST", "/v1/audio/transcriptions", self._body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise Refused(answer.status, content)
        return str(json.loads(content)["text"])

    def close(self) -> None:
        self._connection.close()


def uploaded(address: str, file: bytes, headers: Mapping[str, str] | None = None) -> str:
    """Upload a file over a connection of its own and return the outcome."""
    try:
        with closing(Upload(address, file, headers)) as upload:
            return "upload well" if upload() else "upload without text"
    except Refused as error:
        return f"upload {error.status}"
    except OSError as error:
        return f"upload {error}"
