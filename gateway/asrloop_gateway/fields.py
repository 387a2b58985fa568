"""The fields of an upload's form, checked. The audio and what is asked of the model are checked by the servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asrloop_gateway.asked import MOST_LANGUAGES, Asked, terms_of
from asrloop_gateway.chunking import pause_of
from asrloop_gateway.errors import ApiError, bad_request
from asrloop_gateway.events import Tells
from asrloop_gateway.formats import FORMATS, ResponseOptions
from asrloop_gateway.settings import Settings
from asrloop_gateway.speakers import DIARIZED, WITH_SEGMENTS, wish_of
from asrloop_gateway.uploads import Form

TRANSLATE = "translate"
_MODEL_CHARACTERS = 200
_GRANULARITIES = ("word", "segment")
_INCLUDED = ("logprobs", "progress")
_YES, _NO = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class FormFields:
    """Checked fields of a form, without its file."""

    format: str
    stream: bool
    tells: Tells
    """Of a stream; its words hold for other responses too."""
    asked: Asked
    prompt: str
    """What the servers take of it goes into `asked`."""
    languages: tuple[str, ...]
    """Languages that may be spoken. Where the model has one of them only, it goes into `asked`."""
    pause: float | None
    """Shortest pause, in seconds, that ends a segment; None where the servers' own rule holds, or the response has no segments."""
    of_options: Mapping[str, str]
    """Names of the fields that set the servers' options."""
    response: ResponseOptions


def parse_fields(form: Form, settings: Settings, task: str = "") -> FormFields:
    """Check a form and its file. Raises ApiError 400 or 413."""
    if not form.size:
        raise bad_request("invalid_audio", "The file is empty. Send a WAV, FLAC, OGG or MP3 file.", "file")
    if form.size > settings.upload_bytes:
        message = f"The file has {form.size} bytes. The limit is {settings.upload_bytes}."
        raise ApiError(413, "too_large", message, param="file")
    format_, streams = form.text("response_format", "json"), _flag(form, "stream")
    _require_one_of("response_format", format_, tuple(FORMATS))
    wish = wish_of(form, format_, streams)
    _check_temperature(form.text("temperature", "0"))
    granularities = _some_of(form, "timestamp_granularities", _GRANULARITIES) or ["segment"]
    include = _some_of(form, "include", _INCLUDED)
    # Only where the response shows them: they cost the servers time.
    shows_segments = format_ in WITH_SEGMENTS or (format_ in ("srt", "vtt") and not streams)
    words = "word" in granularities and shows_segments
    if words and format_ == DIARIZED:
        message = f"response_format {format_} cannot hold words. Give verbose_json and diarize=true, or leave them out."
        raise bad_request("invalid_form", message, "timestamp_granularities[]")
    logprobs = "logprobs" in include
    if logprobs and not streams and format_ not in ("json", "verbose_json"):
        message = f"response_format {format_} cannot hold logprobs. Give json or verbose_json, or leave them out."
        raise bad_request("invalid_form", message, "include[]")
    asked_pause = pause_of(form)
    pause = asked_pause if shows_segments else None
    terms, keywords = (form.texts(name) for name in ("key_terms", "keywords"))
    of_terms = "keywords[]" if keywords else "key_terms[]"
    return FormFields(
        format=format_,
        stream=streams,
        tells=Tells("progress" in include, format_ in WITH_SEGMENTS, words, logprobs),
        asked=Asked(
            language=form.text("language"),
            task=task,
            word_times=words or logprobs or pause is not None,
            key_terms=terms_of(of_terms, terms + keywords),
            key_terms_boost=form.text("key_terms_boost"),
            diarize=wish.diarize,
            speakers=wish.speakers,
        ),
        prompt=form.text("prompt"),
        languages=_languages_of(form),
        pause=pause,
        of_options={
            "key_terms": of_terms,
            "word_times": "timestamp_granularities[]" if words else "include[]" if logprobs else "chunking_strategy",
        },
        response=ResponseOptions(
            form.text("model", "asr_file")[:_MODEL_CHARACTERS],
            granularities,
            "english" if task == TRANSLATE else settings.language,
            logprobs,
            task or "transcribe",
            bool(wish.diarize),
        ),
    )


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise bad_request("invalid_form", f"{name} is {value!r:.50}. Give one of {', '.join(allowed)}.", name)


def _some_of(form: Form, name: str, allowed: tuple[str, ...]) -> list[str]:
    """Return the values of a repeatable field, each of which must be allowed. Raises ApiError 400."""
    for each in (given := form.texts(name)):
        _require_one_of(f"{name}[]", each, allowed)
    return given


def _flag(form: Form, name: str) -> bool:
    """Return a field that is true or false, which it is by default. Raises ApiError 400."""
    _require_one_of(name, given := form.text(name, "false").lower(), (*_YES, *_NO))
    return given in _YES


def _languages_of(form: Form) -> tuple[str, ...]:
    """Return `languages[]`, each once. Raises ApiError 400."""
    languages = tuple(dict.fromkeys(form.texts("languages")))
    if languages and form.text("language"):
        raise bad_request("invalid_form", "language and languages[] were sent. Send one of them.", "languages[]")
    if len(languages) > MOST_LANGUAGES:
        message = f"languages[] has {len(languages)} languages. Give at most {MOST_LANGUAGES}, or none to let the model decide."
        raise bad_request("invalid_form", message, "languages[]")
    return languages


def _check_temperature(given: str) -> None:
    """Check the temperature, which has no effect: the decoder always takes the most probable token."""
    try:
        holds = 0 <= float(given) <= 1
    except ValueError:
        holds = False
    if not holds:
        raise bad_request("invalid_form", f"temperature is {given!r:.50}. Give a number in 0..1.", "temperature")
