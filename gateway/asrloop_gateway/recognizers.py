"""The servers' recognizers: the default and those beside it, which of them a caller's `model` names, and what they speak."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from asrloop_client import AsrError, AsyncAsrClient

from asrloop_gateway.errors import LOG

_SECONDS = 10.0
"""The servers are asked again after so long."""
DEFAULT = ""


class Recognizers:
    """Belongs to one asyncio loop."""

    def __init__(self, client: AsyncAsrClient, given: Sequence[str], aliases: Mapping[str, str]) -> None:
        """`given` are the names where the servers do not tell them; `aliases` are other names that callers use for them."""
        self._client, self._given, self._aliases = client, list(given), aliases
        self._names = list(given)
        self._asked_at = float("-inf")

    async def named(self, model: str) -> str:
        """Return the recognizer that `model` names. Any other name is the default's: OpenAI's names must go on working."""
        wanted = self._aliases.get(model, model)
        return wanted if wanted in await self.names() else DEFAULT

    async def names(self) -> list[str]:
        """Return the names of those beside the default."""
        now = time.monotonic()
        if now - self._asked_at > _SECONDS:
            self._asked_at = now  # others need not ask meanwhile
            try:
                self._names = [name for name in await self._client.recognizers() if name != DEFAULT]
            except AsrError as error:
                LOG.debug("the servers do not tell their recognizers: %s", error)
                self._names = self._names or self._given
        return self._names


_SERVED = re.compile(r"the served model has ([a-z, ]+);")


def languages_in(refusal: str) -> list[str]:
    """Return the languages that a server names where it refuses another one."""
    found = _SERVED.search(refusal)
    return found[1].split(", ") if found else []
