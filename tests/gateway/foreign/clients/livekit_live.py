"""Prints what LiveKit's OpenAI plugin hears by realtime, turn by turn. Arguments: the gateway's URL, a WAV file."""

import asyncio
import sys
import wave

from livekit import rtc
from livekit.agents import stt as agents
from livekit.agents import utils
from livekit.plugins.openai import STT


async def main(url: str, path: str) -> None:
    with wave.open(path) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    samples += bytes(2 * rate * 2)  # two seconds of silence end the last turn
    async with utils.http_context.open():
        stt = STT(base_url=f"{url}/v1", api_key="none", model="gpt-4o-transcribe", use_realtime=True)
        stream = stt.stream()

        async def speak() -> None:
            step = rate // 20 * 2
            for at in range(0, len(samples), step):
                part = samples[at : at + step]
                stream.push_frame(rtc.AudioFrame(part, rate, 1, len(part) // 2))
                await asyncio.sleep(0.05)
            await asyncio.sleep(5)  # this client has no way to ask for the rest
            await stream.aclose()

        speaking = asyncio.create_task(speak())
        async for event in stream:
            if event.type == agents.SpeechEventType.FINAL_TRANSCRIPT:
                print(event.alternatives[0].text)
        await speaking
        await stt.aclose()


asyncio.run(main(*sys.argv[1:]))
