"""The kinds of files that can be decoded, as ``audio.formats`` names them."""

from typing import Literal, get_args

Format = Literal["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "webm", "mp4", "aac", "amr", "wma", "avi", "flv"]
FORMATS: tuple[Format, ...] = get_args(Format)
