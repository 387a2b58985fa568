"""live_client.py HOST:GRPC_PORT FILE: words while they are spoken; the file stands for a microphone."""

import sys
import time

import soundfile
from asrloop_client import AsrClient

address, path = sys.argv[1:]


def microphone(file):
    """Yield a tenth of a second of samples, every tenth of a second."""
    for chunk in file.blocks(file.samplerate // 10, dtype="float32", always_2d=True):
        time.sleep(0.1)
        yield chunk.mean(axis=1)


with (
    soundfile.SoundFile(path) as file,
    AsrClient(address) as client,
    client.stream(microphone(file), sample_rate=file.samplerate) as events,
):
    for event in events:
        print(event.text, end="\n" if event.final else "\r", flush=True)
