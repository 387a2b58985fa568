"""voice_agent.py HOST:GRPC_PORT [FILE]: answers each turn. The file is played at its own speed; without one, standard input is
a microphone: arecord -f S16_LE -r 16000 -t raw | python voice_agent.py localhost:8001
"""

import asyncio
import sys

import soundfile
from asrloop_client import AsyncAsrClient


async def played(path):
    """Yield a tenth of a second of a file, every tenth of a second."""
    with soundfile.SoundFile(path) as file:
        for chunk in file.blocks(file.samplerate // 10, dtype="float32", always_2d=True):
            await asyncio.sleep(0.1)
            yield chunk.mean(axis=1)


async def recorded():
    """Yield the 16-bit PCM of standard input."""
    while chunk := await asyncio.to_thread(sys.stdin.buffer.read, 3200):
        yield chunk[: len(chunk) // 2 * 2]


async def think(said):
    """Return an answer. A real agent asks a language model here, and speaks."""
    await asyncio.sleep(0.2)
    return f"I heard {len(said.split())} words."


async def main(address, path=None):
    """Prepare an answer in each pause, throw it away when speech goes on, give it when the turn is over."""
    rate, source = (soundfile.info(path).samplerate, played(path)) if path else (16_000, recorded())
    prepared = None  # the text that is answered, and the task that does so
    async with (
        AsyncAsrClient(address) as client,
        client.stream(source, sample_rate=rate, turn_detection="semantic") as events,
    ):
        async for event in events:
            waits = event.pause or event.final
            if prepared and (not waits or event.text != prepared[0]):
                print("  (speech goes on)", flush=True)
                prepared[1].cancel()
                prepared = None
            if waits and event.text and not prepared:
                prepared = event.text, asyncio.create_task(think(event.text))
            if event.final and prepared:
                print(f"speaker: {event.text}\nagent: {await prepared[1]}", flush=True)
                prepared = None


asyncio.run(main(*sys.argv[1:]))
