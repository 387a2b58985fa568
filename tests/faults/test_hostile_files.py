"""Files that are broken on purpose: each gets an error or a text, and the server goes on."""

import io
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.faults.conftest import Report, short_and_long
from tests.faults.harness import Outcomes, Serving, Speech

CONTAINERS = {"WAV": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}


def broken(original: bytes, random_: random.Random) -> bytes:
    """``original`` with a few bytes changed, removed, doubled, or its head exchanged."""
    content = bytearray(original)
    for _ in range(random_.randint(1, 8)):
        at = random_.randrange(min(len(content), random_.choice((64, 4096, len(content)))))
        kind = random_.randrange(4)
        if kind == 0:
            content[at] = random_.randrange(256)
        elif kind == 1:
            content[at : at + 4] = random_.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\x7f\xff\xff\xff")
            )
        elif kind == 2:
            del content[at : at + random_.randint(1, 2000)]
        else:
            content[at:at] = content[at : at + random_.randint(1, 2000)]
        if not content:
            break
    return bytes(content) or b"\0"


def outcome_of(client: triton.InferenceServerClient, tensor: triton.InferInput) -> str:
    """``transcribed``, the code in brackets of a refusal, or the gRPC status of what has none."""
    try:
        client.infer("asr_file", [tensor], client_timeout=10)
    except InferenceServerException as error:
        code = re.search(r"\[(\w+)\] ", error.message())
        return code[1] if code else str(error.status())
    return "transcribed"


@short_and_long("files", 60, 300)
def test_broken_files(
    files: int, serving: Serving, speech: Speech, beckett: NDArray[np.float32], report: Report
) -> None:
    random_ = random.Random(16)
    originals = []
    for container, subtype in CONTAINERS.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, beckett[:48_000], 16_000, format=container, subtype=subtype)
        originals.append(buffer.getvalue())
    outcomes, before = Outcomes(), serving.server
    with triton.InferenceServerClient(serving.address) as client:
        for number in range(files):
            content = broken(originals[number % len(originals)], random_)
            tensor = triton.InferInput("AUDIO", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[content]], np.object_))
            started = time.monotonic()
            outcome = outcome_of(client, tensor)
            outcomes.add(outcome, time.monotonic() - started)
    report(outcomes)
    assert set(outcomes.counts) <= {"transcribed", "invalid_audio", "too_long"}
    assert serving.server == before
    serving.wait(speech)


def test_good_files_are_answered_beside_hostile_ones(serving: Serving, speech: Speech, report: Report) -> None:
    """Each hostile one took 20 s of the two threads that parse, and the good ones waited behind them or shared the blame."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000, np.float32), 16_000, format="OGG", subtype="VORBIS")
    frames = (b"\xff\xf3\x14\xc4".ljust(24, b"\0") * 2, b"\xff\xf3\x18\xc4".ljust(36, b"\0") * 2)
    hostile = (buffer.getvalue() + b"OggS".ljust(26, b"\0") + b"\xff" * 4_000_000, b"".join(frames) * 40_000)
    outcomes, over = Outcomes(), threading.Event()

    def attack(content: bytes) -> None:
        with triton.InferenceServerClient(serving.address) as client:
            tensor = triton.InferInput("AUDIO", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[content]], np.object_))
            while not over.is_set():
                outcome_of(client, tensor)

    with ThreadPoolExecutor(4) as pool:
        attacks = [pool.submit(attack, content) for content in hostile * 2]
        try:
            for _ in range(10):
                started = time.monotonic()
                outcomes.add(speech.ask(serving.address, 5, by_file=True), time.monotonic() - started)
        finally:
            over.set()
        for each in attacks:
            each.result()
    report(outcomes)
    assert set(outcomes.counts) == {"ok"}
