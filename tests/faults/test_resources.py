"""What a server stands on gives way: shared memory, the disk under its log, the clock; and bodies too large for a stack."""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import StartServer, eventually
from tests.faults.conftest import Report, short_and_long
from tests.faults.harness import Serving, Speech, callers

FORM, BYTES = "application/x-www-form-urlencoded", "application/octet-stream"


def upload(serving: Serving, body: Path, content_type: str, *options: str) -> tuple[int, bytes]:
    """curl's exit code and what came back."""
    command = [
        "curl", "--silent", "--max-time", "120", "-H", f"Content-Type: {content_type}",
        "-H", "Inference-Header-Content-Length: 0", "-H", "Expect:", *options, "--data-binary", f"@{body}",
        f"http://127.0.0.1:{serving.http}/v2/models/asr_file/infer",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, check=False, timeout=150)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("megabytes", [5, 30, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("content_type", [FORM, BYTES])
@pytest.mark.parametrize("options", [(), ("-H", "Transfer-Encoding: chunked")], ids=["plain", "chunked"])
def test_a_large_body_is_answered(
    megabytes: int, content_type: str, options: tuple[str, ...], serving: Serving, speech: Speech, tmp_path: Path
) -> None:
    """curl's own content type makes Triton parse the body as a form, on the stack: any over 4 MB used to end the server."""
    before = serving.server
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(megabytes * 1_000_000)
    code, answer = upload(serving, body, content_type, *options)
    assert code == 0
    assert b"error" in answer
    serving.wait(speech)
    assert serving.server == before


@short_and_long("seconds", 3, 5)
def test_full_shared_memory(seconds: int, tmp_path: Path, speech: Speech, report: Report) -> None:
    """In a mount namespace of its own, so that no other server suffers."""
    script = 'mount -t tmpfs -o size=96m tmpfs /dev/shm && exec "$@"'
    wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    serving = Serving(tmp_path / "serve.log", wrapper)
    try:
        serving.wait(speech)
        filler = Path(f"/proc/{serving.process.pid}/root/dev/shm/filler")
        with callers(serving.address, speech) as outcomes:
            assert eventually(lambda: outcomes.counts["ok"] >= 8)
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # everything that is left
                while True:
                    file.write(b"\0" * 4096)
            time.sleep(seconds)
            filler.unlink()
            started = time.monotonic()
            serving.wait(speech)
            recovery = time.monotonic() - started
        report(outcomes, f"right after {recovery:.1f} s")
    finally:
        serving.stop()


@pytest.mark.slow
@short_and_long("count", 40, 200)
def test_no_room_for_the_log(count: int, tmp_path: Path, speech: Speech, report: Report) -> None:
    serving = Serving(tmp_path / "unused", stderr="/dev/full", ASRLOOP_SERVER__LOG_LEVEL="verbose")
    try:
        serving.wait(speech)
        with callers(serving.address, speech) as outcomes:
            assert eventually(lambda: outcomes.counts["ok"] >= count, 60)
        report(outcomes)
        assert set(outcomes.counts) == {"ok"}
    finally:
        serving.stop()


@pytest.mark.slow
def test_the_clock_steps(
    start_server: StartServer, model_repository: Path, tmp_path: Path, speech: Speech, report: Report
) -> None:
    """The time of day jumps back an hour and forth a day; what waits goes by the monotonic clock."""
    library = next(Path("/usr/lib").rglob("libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("needs libfaketime (Debian: apt-get install faketime)")
    offset = tmp_path / "offset"
    offset.write_text("+0s")
    fake = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset)}
    with (
        start_server(
            model_repository, FAKETIME_NO_CACHE="1", FAKETIME_DISABLE_SHM="1", FAKETIME_DONT_FAKE_MONOTONIC="1", **fake
        ) as server,
        callers(server.grpc_endpoint, speech) as outcomes,
    ):
        for step in ("-3600s", "+86400s", "+0s"):
            before = outcomes.counts["ok"]
            offset.write_text(step)
            assert eventually(lambda before=before: outcomes.counts["ok"] >= before + 16)  # type: ignore[misc]
    report(outcomes)
    assert set(outcomes.counts) == {"ok"}
