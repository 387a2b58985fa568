"""Prints what LiveKit's OpenAI plugin hears in a file. Arguments: the gateway's URL, a WAV file."""

import asyncio
import sys
import wave

from livekit import rtc
from livekit.agents import utils
from livekit.plugins.openai import STT


async def main(url: str, path: str) -> None:
    with wave.open(path) as file:
        frames = file.getnframes()
        audio = rtc.AudioFrame(file.readframes(frames), file.getframerate(), 1, frames)
    async with utils.http_context.open():
        stt = STT(base_url=f"{url}/v1", api_key="none", model="whisper-1")
        heard = await stt.recognize(audio)
        print(heard.alternatives[0].text)
        await stt.aclose()


asyncio.run(main(*sys.argv[1:]))
