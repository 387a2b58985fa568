"""Transcripts are written as subtitles and JSON."""

import json

from asrloop_client.transcript import Segment, Timings, Transcript


def transcript(*segments: Segment) -> Transcript:
    return Transcript(
        text="a < b", segments=segments, words=(), duration=3.5, confidence=0.5, complete=True, tokens=(1,),
        token_times=(), timings=Timings(1, 0, 1), endpoint="host:1", attempts=1, request_id="x",
    )  # fmt: skip


def test_subtitles_and_json() -> None:
    two = transcript(Segment("a < b", 0.0, 1.25), Segment("so\n\nit goes", 3599.9996, 3661.5))
    srt = "1\n00:00:00,000 --> 00:00:01,250\na < b\n\n2\n01:00:00,000 --> 01:01:01,500\nso it goes\n\n"
    assert two.to_srt() == srt
    assert two.to_vtt().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.250\na &lt; b\n\n")
    assert json.loads(two.to_json())["segments"][0] == {"text": "a < b", "start": 0.0, "end": 1.25, "speaker": None}
