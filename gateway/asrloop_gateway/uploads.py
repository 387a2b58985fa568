"""Reading a form with a file, within limits of size and time. Large files go to disk as they arrive.

Nothing looks into the file: bytes of strangers are parsed by the servers, in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from asrloop_gateway.errors import LOG, ApiError, bad_request, overloaded
from asrloop_gateway.gateway import OnBytes
from asrloop_gateway.settings import Settings

_MOST_FIELDS = 128
"""Each of 100 key terms may be one."""
_FIELD_BYTES = 32 << 10
_FORM_BYTES = _MOST_FIELDS * _FIELD_BYTES
"""Bytes that a body may have besides the file."""
logging.getLogger("python_multipart").setLevel(
    logging.ERROR
)  # it warns of each malformed form, which the caller is told
NO_REFERENCES = (
    "Voices are not compared with recordings of known speakers, that is not offered yet: speakers are A, B, ... in the order in "
    "which they speak."
)
_CHARSET = re.compile(r""";\s*charset\s*=\s*("[^"]*"|[^;]*)""", re.IGNORECASE)


@dataclass(frozen=True)
class Form:
    """Fields and file that were sent."""

    fields: FormData
    file: UploadFile
    """The caller's file name is not used."""

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self.file.size or 0

    def text(self, name: str, default: str = "") -> str:
        """Return a field, or `default` where it is missing or empty. Raises ApiError for a file, and for several values."""
        values = self.fields.getlist(name)
        if not all(isinstance(value, str) for value in values):
            raise bad_request("invalid_form", f"{name} was sent as a file. Send it as text.", name)
        given = dict.fromkeys(value.strip() for value in values if isinstance(value, str))
        if len(given) > 1:
            several = ", ".join(f"{value!a:.50}" for value in [*given][:3])
            raise bad_request("invalid_form", f"{name} was sent {len(values)} times: {several}. Send one value.", name)
        return next(iter(given), "") or default

    def texts(self, name: str) -> list[str]:
        """Return all values of a repeatable field, with or without [] after its name, but for empty ones.

        One value may hold several, as JSON or with commas.
        """
        values = self.fields.getlist(f"{name}[]") + self.fields.getlist(name)
        return [each for value in values if isinstance(value, str) for each in _listed(value.strip()) if each]

    def members(self, name: str) -> dict[str, str]:
        """Return the members of an object that came as the fields `name[member]`, as OpenAI's packages send one."""
        names = [each for each in self.fields if each.startswith(f"{name}[") and each.endswith("]")]
        return {each[len(name) + 1 : -1]: self.text(each) for each in names}


def _listed(value: str) -> list[str]:
    """Return the words in `["word", "segment"]`, in `word,segment`, or in `word`."""
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(given := json.loads(value), list):
            return [str(each) for each in given]
    return [each.strip() for each in value.split(",")]


class _Parser(MultiPartParser):
    """Takes the part `file` for a file also where its head has no file name, or has it as `filename*` only (RFC 5987).

    Recordings of known speakers are refused before they are read: they are larger than a field may be.
    """

    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        name = options.get(b"name", b"")
        if name.removesuffix(b"[]") == b"known_speaker_references":
            field = "known_speaker_references[]"
            raise bad_request("not_supported", f"{field} has audio. {NO_REFERENCES} Leave it out.", field)
        if name == b"file" and b"filename" not in options:
            part.content_disposition = b'form-data; name="file"; filename="file"'
        super().on_headers_finished()


@asynccontextmanager
async def form_of(request: Request, settings: Settings, on_bytes: OnBytes) -> AsyncIterator[Form]:
    """Read the request's form; its file is deleted afterwards. Raises ApiError 400, 408, 413, 415 or 503.

    `on_bytes` is called with the size of each chunk, and may raise.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise bad_request(
            "invalid_form", f"Content-Type is {kind!r:.100}. Send multipart/form-data with the field `file`."
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError(415, "invalid_form", "Content-Encoding is not supported. Send the body without it.")
    fields = await _parsed(kind, _body(request, settings, on_bytes))
    try:
        file = fields.get("file")
        if not isinstance(file, UploadFile):
            raise bad_request("missing_file", "The field `file` is missing. Send the audio in it.", "file")
        yield Form(fields, file)
    finally:
        with contextlib.suppress(OSError):  # closing writes what is still in memory
            await fields.close()


async def _parsed(kind: str, body: AsyncGenerator[bytes, None]) -> FormData:
    """Parse a body of the Content-Type `kind`. Raises ApiError 400, 503 when the file cannot be stored, and what `body` raises."""
    parser = _Parser(
        # Forms are UTF-8 (RFC 7578, 5.1.2); some other character sets have text that cannot be sent back.
        Headers({"Content-Type": _CHARSET.sub("", kind)}),
        body,
        max_files=1,
        max_fields=_MOST_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise bad_request("invalid_form", f"The form cannot be read: {error.message}") from error
    except OSError as error:
        LOG.error("an upload cannot be stored in TMPDIR: %s", error.strerror or error)
        raise overloaded("The upload cannot be stored now. Try again later.") from None


async def _body(request: Request, settings: Settings, on_bytes: OnBytes) -> AsyncGenerator[bytes, None]:
    most = settings.upload_bytes + _FORM_BYTES
    too_large = ApiError(
        413,
        "too_large",
        f"The upload is larger than {settings.upload_bytes} bytes. Send FLAC, OGG or MP3, or a shorter recording.",
    )
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    received, until = 0, time.monotonic() + settings.upload_seconds
    chunks = request.stream()
    while True:
        left = until - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(left, settings.idle_seconds))):
                chunk = await anext(chunks, None)
        except TimeoutError:
            waited = settings.upload_seconds if left <= settings.idle_seconds else settings.idle_seconds
            message = f"Got {received} bytes, and the rest did not come within {waited:g} s. Send faster, or a shorter recording."
            raise ApiError(408, "too_slow", message) from None
        except ClientDisconnect:
            raise ApiError(400, "disconnected", "The client disconnected during the upload.") from None
        if chunk is None:
            return
        received += len(chunk)
        if received > most:
            raise too_large
        on_bytes(len(chunk))
        yield chunk
