"""Session settings of /v1/realtime, in OpenAI's current and beta formats, and decoding of the audio that they describe."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
from asrloop_client.audio import HIGHEST_RATE, LOWEST_RATE
from asrloop_client.settings import Parameter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from asrloop_gateway.asked import MOST_LANGUAGES
from asrloop_gateway.errors import bad_request
from asrloop_gateway.prompts import MOST_TERMS

_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_BETA_NAMES = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_G711 = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
_G711_RATE = 8_000
PROMPT_CHARACTERS = 16_384
"""Longest prompt: a session holds it until it ends."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_nobody(cls, given: object) -> object:
        """Refuse to tell who speaks; other unknown fields have no effect."""
        if isinstance(given, dict) and any(given.get(name) not in (None, False) for name in ("diarize", "speakers")):
            raise ValueError("live audio does not tell speakers apart, leave diarize and speakers out")
        return given


def _a_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("Input should be a number")  # noqa: TRY004  # pydantic takes no other for a wrong value
    return value


_Whole = Annotated[int, BeforeValidator(_a_number)]
_Real = Annotated[float, BeforeValidator(_a_number)]
"""Numbers of JSON; pydantic takes true for 1, and text."""


class Format(_Model):
    """Audio format: 16-bit PCM at `rate`, or G.711, which always has 8000 samples a second, whatever `rate` was given."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: Annotated[_Whole, Field(ge=LOWEST_RATE, le=HIGHEST_RATE)] = 24_000

    @model_validator(mode="after")
    def _of_g711(self) -> Format:
        return self if self.type == "audio/pcm" else self.model_copy(update={"rate": _G711_RATE})


class Transcription(_Model):
    """Sent back to the caller. What the servers take of it is passed on."""

    model: Annotated[str, Field(max_length=200)] | None = None
    language: Annotated[str, Field(max_length=200)] | None = None
    languages: Annotated[list[str], Field(max_length=MOST_LANGUAGES)] | None = None
    keywords: Annotated[list[str], Field(max_length=MOST_TERMS)] | None = None
    prompt: Annotated[str, Field(max_length=PROMPT_CHARACTERS)] | None = None


_LONGEST_PAUSES = {"low": 8_000, "medium": 4_000, "high": 2_000, "auto": 4_000}
"""Milliseconds by eagerness: a turn is over after such a pause even where more seems to be coming. As OpenAI's API has it."""


class TurnDetection(_Model):
    """What ends a turn: a pause, or a pause behind which the speaker sounds done. With null the caller commits."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[_Real, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[_Whole, Field(ge=0, le=2_000)] | None = None
    silence_duration_ms: Annotated[_Whole, Field(ge=100, le=10_000)] | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None

    @model_validator(mode="after")
    def _of_one_type(self) -> TurnDetection:
        if self.type == "server_vad" and self.eagerness is not None:
            raise ValueError("eagerness goes with semantic_vad")
        if self.type == "semantic_vad" and self.silence_duration_ms is not None:
            raise ValueError("silence_duration_ms goes with server_vad")
        return self

    @property
    def parameters(self) -> tuple[tuple[str, Parameter], ...]:
        """The same as request parameters; what is not set is left to the servers."""
        is_semantic = self.type == "semantic_vad"
        given = {
            "turn_detection": "semantic" if is_semantic else None,
            "longest_pause_ms": _LONGEST_PAUSES[self.eagerness or "auto"] if is_semantic else None,
            "silence_ms": self.silence_duration_ms,
            "speech_threshold": self.threshold,
            "padding_ms": self.prefix_padding_ms,
        }
        return tuple((name, value) for name, value in given.items() if value is not None)


class Session(_Model):
    """Settings in `session.audio.input`."""

    format: Format = Format()
    transcription: Transcription | None = Transcription()
    noise_reduction: None = None
    turn_detection: TurnDetection | None = TurnDetection()

    @field_validator("noise_reduction", mode="before")
    @classmethod
    def _none(cls, value: object) -> None:
        if value is not None:
            raise ValueError("noise is not reduced here, send null")

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.format.rate

    @property
    def second_bytes(self) -> int:
        """Bytes of a second of appended audio."""
        return self.rate if self.format.type in _G711 else 2 * self.rate

    @property
    def model(self) -> str:
        """The model that the caller names, or ""."""
        return (self.transcription.model or "") if self.transcription is not None else ""

    @property
    def language(self) -> str:
        """The language asked for, or "" where the model decides."""
        return (self.transcription.language or "").strip() if self.transcription is not None else ""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that may be spoken; none where `language` says it."""
        given = self.transcription.languages if self.transcription is not None and not self.language else None
        return tuple(dict.fromkeys(given or ()))

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names and words to expect."""
        return tuple((self.transcription.keywords or ()) if self.transcription is not None else ())

    @property
    def prompt(self) -> str:
        """The prompt, or ""."""
        return (self.transcription.prompt or "") if self.transcription is not None else ""

    def updated(self, message: dict[str, Any]) -> Session:
        """Return the session with the message's settings; others stay. Raises ApiError 400."""
        given = message.get("session")
        if not isinstance(given, dict):
            raise bad_request("invalid_session", "session is missing. Send {'session': {...}}.", "session")
        if given.get("type", "transcription") != "transcription":
            raise bad_request(
                "invalid_session",
                f"session.type is {given['type']!r:.50}. Only transcription is supported.",
                "session.type",
            )
        audio = given.get("audio")
        if not isinstance(audio, dict | None):
            text = f"session.audio is {audio!r:.50}. Send {{'input': {{...}}}}."
            raise bad_request("invalid_session", text, "session.audio")
        wanted = audio.get("input") if audio is not None else _of_beta(given)
        try:
            new = Session.model_validate(wanted if wanted is not None else {})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("session.audio.input", *first["loc"])))
            raise bad_request("invalid_session", f"{where}: {first['msg']}.", where) from None
        return self.model_copy(update={name: getattr(new, name) for name in new.model_fields_set})

    def samples(self, content: bytes) -> Iterator[npt.NDArray[np.int16]]:
        """Return the samples [N] of appended bytes, a second at a time: decoded at once they take four times the bytes.

        Raises ApiError 400.
        """
        if self.format.type not in _G711 and len(content) % 2:
            raise bad_request(
                "invalid_audio", f"audio has {len(content)} bytes. Send 16-bit PCM, 2 bytes a sample.", "audio"
            )
        second = self.second_bytes
        return (self._decoded(content[at : at + second]) for at in range(0, len(content), second))

    def _decoded(self, content: bytes) -> npt.NDArray[np.int16]:
        if self.format.type not in _G711:
            return np.frombuffer(content, "<i2")
        samples, _ = soundfile.read(
            io.BytesIO(content), dtype="int16", samplerate=_G711_RATE, channels=1, format="RAW", subtype=_G711[self.format.type]
        )  # fmt: skip
        return np.asarray(samples, np.int16)

    def described(self, beta: bool) -> dict[str, Any]:
        """Return the session as JSON for the caller, in the beta's format if `beta`."""
        own = self.model_dump(exclude={"format"} if beta else {})
        if self.turn_detection is not None:
            own["turn_detection"] = self.turn_detection.model_dump(exclude_none=True)
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
    """Return a random id such as `sess_1f0c...`."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"
