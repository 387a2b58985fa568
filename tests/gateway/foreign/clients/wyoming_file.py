"""Prints what a Wyoming client (Home Assistant) hears by wyoming_openai. Arguments: the gateway's URL, a WAV file, a model."""

import asyncio
import socket
import sys
import wave

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def main(url: str, path: str, model: str) -> None:
    port = free_port()
    proxy = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wyoming_openai", "--uri", f"tcp://127.0.0.1:{port}", "--languages", "en"),
        *("--stt-openai-url", f"{url}/v1", "--stt-openai-key", "none", "--stt-models", model),
        *("--stt-streaming-models", "gpt-transcribe", "--stt-realtime-models", "gpt-live-transcribe"),
        stdout=sys.stderr,
    )
    try:
        print(await heard(port, path, model))
    finally:
        proxy.terminate()
        await proxy.wait()


async def heard(port: int, path: str, model: str) -> str:
    with wave.open(path) as file:
        form = {"rate": file.getframerate(), "width": 2, "channels": 1}
        samples = file.readframes(file.getnframes())
    async with asyncio.timeout(60):
        client = AsyncTcpClient("127.0.0.1", port)
        while True:
            try:
                await client.connect()
                break
            except OSError:
                await asyncio.sleep(0.2)
        await client.write_event(Transcribe(name=model, language="en").event())
        await client.write_event(AudioStart(**form).event())
        for at in range(0, len(samples), 4096):
            await client.write_event(AudioChunk(audio=samples[at : at + 4096], **form).event())
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                return Transcript.from_event(event).text
    raise SystemExit("it closed the connection without a transcript")


asyncio.run(main(*sys.argv[1:]))
