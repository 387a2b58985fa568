"""Runs in the vendor's environment: transcribes the WAV file named on each line of standard input, answers with a line of JSON."""

import json
import sys

import soundfile
from moonshine_voice import ModelArch, Transcriber  # type: ignore[import-not-found]

# The same task for all: the clip as one utterance, and nothing but its text.
OPTIONS = {"vad_threshold": "0.0", "identify_speakers": "false", "return_audio_data": "false"}


def main() -> None:
    """Serve until standard input ends. Argument: directory of the model."""
    recordings: dict[str, list[float]] = {}
    with Transcriber(sys.argv[1], ModelArch.TINY, options=OPTIONS) as transcriber:
        for line in sys.stdin:
            path = line.strip()
            if path not in recordings:
                recordings[path] = soundfile.read(path, dtype="float32")[0].tolist()
            transcript = transcriber.transcribe_without_streaming(recordings[path])
            print(json.dumps(" ".join(part.text.strip() for part in transcript.lines)), flush=True)


if __name__ == "__main__":
    main()
