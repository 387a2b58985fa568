"""A program that never closes its client ends cleanly, and so does one that forks."""

import os
import subprocess
import sys

import pytest

from tests.client.stand_in import StandIn

BLOCKING = """
import numpy, sys
from asrloop_client import AsrClient
client = AsrClient(sys.argv[1], probe_interval=0.01)
assert client.transcribe(numpy.ones(160, numpy.float32)).text == "160 160 16000"
"""

DROPPED = BLOCKING + "del client\n"

IN_CYCLE = BLOCKING + "client.itself = client\ndel client\n"

RUNNING = (
    BLOCKING
    + """
from asrloop_client import ClientClosed
import threading, time
def call():
    try:
        client.transcribe(numpy.ones(160, numpy.float32), parameters={"sleep_ms": 30000})
    except ClientClosed:  # what the end of the program does to a call
        pass
threading.Thread(target=call, daemon=True).start()
time.sleep(0.2)
"""
)

ASYNC = """
import asyncio, numpy, sys
from asrloop_client import AsyncAsrClient
async def main():
    client = AsyncAsrClient(sys.argv[1], probe_interval=0.01)
    assert (await client.transcribe(numpy.ones(160, numpy.float32))).text == "160 160 16000"
asyncio.run(main())
"""

AFTER_MAIN = (
    BLOCKING
    + """
from asrloop_client import AsyncAsrClient
import asyncio, pathlib, tempfile, threading
path = pathlib.Path(tempfile.mkdtemp()) / "a.wav"
path.write_bytes(b"RIFF")
async def use():
    async with AsyncAsrClient(sys.argv[1]) as other:
        assert (await other.transcribe(path)).text == "4 bytes"
def work():
    threading.main_thread().join()
    assert client.transcribe(path).text == "4 bytes"
    assert [each.result().text for each in client.as_completed([path] * 3)] == ["4 bytes"] * 3
    large = numpy.zeros(3 << 20, numpy.float32)
    assert client.transcribe(large).text == f"{large.size} 0 16000"
    assert client.health(deep=path)[0].seconds
    asyncio.run(use())
    print("done", flush=True)
threading.Thread(target=work).start()
"""
)

WAITING_FOR_INPUT = """
import sys
from asrloop_client import AsrClient, DeadlineExceeded
client = AsrClient(sys.argv[1], prewarm=False)
try:
    client.transcribe("-", timeout=0.5)
except DeadlineExceeded:
    pass
"""

FORK = """
import numpy, os, sys, warnings
from asrloop_client import AsrClient, ClientForked
client = AsrClient(sys.argv[1])
ones = numpy.ones(160, numpy.float32)
client.transcribe(ones)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on fork with threads
    child = os.fork()
if child == 0:
    for use in (lambda: client.transcribe(ones), lambda: AsrClient(sys.argv[1])):
        try:
            use()
        except ClientForked as error:
            assert "spawn" in str(error)
        else:
            sys.exit(8)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert client.transcribe(ones).text == "160 160 16000", "the child took the parent's sockets or regions along"
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(BLOCKING, id="never_closed"),
        pytest.param(DROPPED, id="dropped"),
        pytest.param(IN_CYCLE, id="in_a_cycle"),
        pytest.param(RUNNING, id="in_mid_call"),
        pytest.param(ASYNC, id="asyncio"),
        pytest.param(AFTER_MAIN, id="after_the_main_thread"),
        pytest.param(WAITING_FOR_INPUT, id="waiting_for_input"),
        pytest.param(FORK, id="fork"),
    ],
)
def test_it_ends_cleanly(stand_in: StandIn, program: str) -> None:
    reading, writing = os.pipe()  # standard input in which nothing ever comes
    result = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program, stand_in.address],
        env={key: value for key, value in os.environ.items() if not key.startswith(("GRPC_", "PYTEST_"))},
        stdin=reading,
        capture_output=True,
        text=True,
        timeout=60,
    )
    os.close(reading)
    os.close(writing)
    assert result.returncode == 0, result.stderr
    # gRPC's own note about a fork beside its threads, of which asyncio channels always have one; and what a busy machine makes
    # asyncio say in development mode.
    notes = ("skipping fork() handlers", "Executing <")
    said = [line for line in result.stderr.splitlines() if not any(note in line for note in notes)]
    assert said == []
    assert result.stdout == ("done\n" if program is AFTER_MAIN else "")
