"""Prints what a Pipecat service hears. Arguments: file or live, the gateway's URL, a WAV file."""

import asyncio
import sys
import wave

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService, OpenAISTTService


class Print(FrameProcessor):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            print(frame.text, flush=True)
        await self.push_frame(frame, direction)


async def main(kind: str, url: str, path: str) -> None:
    with wave.open(path) as file:
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    if kind == "live":
        samples += bytes(2 * rate * 2)  # two seconds of silence end the last turn
        stt = OpenAIRealtimeSTTService(
            api_key="none",
            base_url=url.replace("http", "ws") + "/v1/realtime",
            turn_detection={"type": "server_vad"},
            settings=OpenAIRealtimeSTTService.Settings(model="gpt-transcribe"),
        )
    else:
        model = OpenAISTTService.Settings(model="whisper-1")
        stt = OpenAISTTService(api_key="none", base_url=f"{url}/v1", settings=model)
    task = PipelineTask(Pipeline([stt, Print()]), params=PipelineParams(audio_in_sample_rate=rate))

    async def speak() -> None:
        await asyncio.sleep(1)  # until the pipeline runs
        if kind == "file":
            await task.queue_frame(VADUserStartedSpeakingFrame())
        step = rate // 20 * 2
        for at in range(0, len(samples), step):
            part = samples[at : at + step]
            await task.queue_frame(InputAudioRawFrame(audio=part, sample_rate=rate, num_channels=1))
            await asyncio.sleep(0.05 if kind == "live" else 0)
        if kind == "file":
            await asyncio.sleep(1)
            await task.queue_frame(VADUserStoppedSpeakingFrame())
        await asyncio.sleep(5)  # until the last text is there
        await task.queue_frame(EndFrame())

    await asyncio.gather(PipelineRunner().run(task), speak())


asyncio.run(main(*sys.argv[1:]))
