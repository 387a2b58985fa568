"""What a caller of /v1/realtime may set, in OpenAI's present shape and in that of its beta, and what that makes of the bytes."""

from __future__ import annotations

import io
import uuid
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asrloop_gateway.errors import bad_request

_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_BETA_NAMES = {"input_audio_transcription": "transcription", "turn_detection": "turn_detection"}
_G711 = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
_G711_RATE = 8_000


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Format(_Model):
    """Of the audio: 16-bit PCM of any rate, or G.711, which has 8000 samples a second."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: Annotated[int, Field(ge=8_000, le=48_000)] = 24_000


class Transcription(_Model):
    """Told again. The served model decides all of it."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class TurnDetection(_Model):
    """Both kinds are the server's own; null leaves it to the caller to commit."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"


class Session(_Model):
    """`session.audio.input`."""

    format: Format = Format()
    transcription: Transcription | None = Transcription()
    turn_detection: TurnDetection | None = TurnDetection()

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.format.rate if self.format.type == "audio/pcm" else _G711_RATE

    def updated(self, message: dict[str, Any]) -> Session:
        """With what the message sets; what it does not name stays. Raises ApiError 400."""
        given = message.get("session")
        if not isinstance(given, dict):
            raise bad_request("invalid_session", "session is missing: send {'session': {...}}", "session")
        if given.get("type", "transcription") != "transcription":
            raise bad_request(
                "invalid_session",
                f"session.type is {given['type']!r:.50}: only transcription is served",
                "session.type",
            )
        audio = given.get("audio")
        wanted = audio.get("input") if isinstance(audio, dict) else _of_beta(given)
        try:
            new = Session.model_validate(wanted if wanted is not None else {})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("session.audio.input", *first["loc"])))
            raise bad_request("invalid_session", f"{where}: {first['msg']}", where) from None
        return self.model_copy(update={name: getattr(new, name) for name in new.model_fields_set})

    def samples(self, content: bytes) -> npt.NDArray[np.int16]:
        """Of appended bytes, [N]. Raises ApiError 400."""
        if self.format.type in _G711:
            samples, _ = soundfile.read(
                io.BytesIO(content), dtype="int16", samplerate=_G711_RATE, channels=1, format="RAW", subtype=_G711[self.format.type]
            )  # fmt: skip
            return np.asarray(samples, np.int16)
        if len(content) % 2:
            raise bad_request(
                "invalid_audio", f"audio has {len(content)} bytes: send 16-bit PCM, 2 bytes a sample", "audio"
            )
        return np.frombuffer(content, "<i2")

    def described(self, beta: bool) -> dict[str, Any]:
        """As it is told to the caller."""
        own = self.model_dump(exclude={"format"} if beta else {})
        if beta:
            old = {new: name for name, new in _BETA_FORMATS.items()}[self.format.type]
            names = {new: name for name, new in _BETA_NAMES.items()}
            return {"input_audio_format": old, **{names[name]: value for name, value in own.items()}}
        return {"type": "transcription", "object": "realtime.transcription_session", "audio": {"input": own}}


def _of_beta(given: dict[str, Any]) -> dict[str, Any]:
    wanted = {new: given[name] for name, new in _BETA_NAMES.items() if name in given}
    if "input_audio_format" in given:
        name = given["input_audio_format"]
        wanted["format"] = {"type": _BETA_FORMATS.get(name, name) if isinstance(name, str) else name}
    return wanted


def new_id(kind: str) -> str:
    """Such as `sess_1f0c...`."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"
