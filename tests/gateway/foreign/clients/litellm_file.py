"""Prints what LiteLLM hears. Arguments: the gateway's URL, a WAV file."""

import sys
from pathlib import Path

import litellm

url, path = sys.argv[1:]
with Path(path).open("rb") as file:
    print(litellm.transcription(model="openai/whisper-1", file=file, api_base=f"{url}/v1", api_key="none").text)
