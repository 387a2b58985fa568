"""The servers' recognizers: the default and those beside it, which of them a caller's `model` names, and what they speak."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence

from asrloop_client import AccessDenied, AsrError, AsyncAsrClient

from asrloop_gateway.errors import LOG, RETRY_SECONDS, ApiError

_SECONDS, _SECONDS_UNTOLD = 10.0, 1.0
"""The servers are asked again after so long; the second where none answered."""
DEFAULT = ""
_OF_DEFAULT = (DEFAULT, "asr_ensemble", "asr_file", "asr_stream")


class Recognizers:
    """Belongs to one asyncio loop."""

    def __init__(self, client: AsyncAsrClient, given: Sequence[str], aliases: Mapping[str, str]) -> None:
        """`given` are the names where the servers do not tell them; `aliases` are other names that callers use for them."""
        self._client, self._given, self._aliases = client, list(given), dict(aliases)
        self._names = list(given)
        self._not_loaded: dict[str, list[str]] = {}
        """Triton models of each recognizer that no server has ready."""
        self._ask_at = float("-inf")
        self._asking: asyncio.Future[None] | None = None
        """Outlives the request that began it, for others wait for the same answer."""
        self._missed: set[str] = set()

    async def named(self, model: str, *, live: bool = False) -> str:
        """Return the recognizer that `model` names. Any other name is the default's: OpenAI's names must go on working.

        `live` for live audio, which needs the loop only. Raises ApiError 503 for one that is not loaded.
        """
        wanted = self._aliases.get(model, model)
        names = await self.names()
        needed = (f"{wanted}_loop",) if live else (f"{wanted}_loop", f"{wanted}_file")
        if missing := [each for each in self._not_loaded.get(wanted, ()) if each in needed]:
            raise _not_loaded(model, missing)
        if wanted in names:
            return wanted
        if model in self._aliases and wanted not in (*_OF_DEFAULT, *self._missed):
            self._missed.add(wanted)
            LOG.warning(
                "model_aliases: no server has the recognizer %r that %r means: the default answers (there are: %s)",
                wanted,
                model,
                ", ".join(names) or "no others",
            )
        return DEFAULT

    async def names(self) -> list[str]:
        """Return the names of those beside the default."""
        if time.monotonic() > self._ask_at:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.ensure_future(self._ask())
            await asyncio.shield(self._asking)
        return self._names

    async def _ask(self) -> None:
        seconds = _SECONDS
        try:
            self._not_loaded = await self._client.not_loaded()
            self._names = [
                name for name, missing in sorted(self._not_loaded.items()) if name and f"{name}_loop" not in missing
            ]
            if any(self._not_loaded.values()):
                seconds = _SECONDS_UNTOLD
        except AsrError as error:
            LOG.debug("the servers do not tell their recognizers: %s", error)
            self._names = self._names or self._given
            seconds = _SECONDS if isinstance(error, AccessDenied) else _SECONDS_UNTOLD
        self._ask_at = time.monotonic() + seconds


def _not_loaded(model: str, missing: Sequence[str]) -> ApiError:
    there = " and no ".join(missing)
    message = (
        f"The model {model!r:.80} is not loaded: the servers have no {there} ready. Ask the operator, or give another."
    )
    return ApiError(503, "model_not_loaded", message, param="model", retry_after=RETRY_SECONDS)


_SERVED = re.compile(r"the served model has ([a-z, ]+);")
_FAMILY = re.compile(r"\(family ([a-z0-9_-]+)\)")


def languages_in(refusal: str) -> list[str]:
    """Return the languages that a server names where it refuses another one."""
    found = _SERVED.search(refusal)
    return found[1].split(", ") if found else []


def family_in(refusal: str) -> str | None:
    """Return the family that a server names there; None where it names none."""
    found = _FAMILY.search(refusal)
    return found[1] if found else None
