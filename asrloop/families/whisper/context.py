"""How much audio the encoder is given: the speech and a little silence, or, once more, the 30 s that it was trained with.

A short context costs what the speech costs and loses no word; now and then it only fails to stop. See docs/whisper.md.
"""

from asrloop.audio import SAMPLE_RATE

SAMPLES_PER_FRAME = 320
"""20 ms."""

SILENCE_SECONDS = 2.0
"""Silence behind the speech."""


def context_samples(samples: int, most_frames: int, *, whole: bool = False) -> int:
    """Return how many samples to encode, speech and silence together, for ``samples`` of speech."""
    frames = (
        most_frames
        if whole
        else -(-samples // SAMPLES_PER_FRAME) + round(SILENCE_SECONDS * SAMPLE_RATE) // SAMPLES_PER_FRAME
    )
    return min(frames, most_frames) * SAMPLES_PER_FRAME
