"""The recognizers of servers: the default, and those that stand beside it by name."""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

import numpy as np
from tritonclient.grpc import service_pb2

from asrloop_client.endpoints import Endpoint
from asrloop_client.servers import Servers

_LOOP = "_loop"
NO_LANGUAGE = "qaa"
"""A code that ISO 639 gives to no language: where a server refuses it, it says what it has."""
MOMENT = np.zeros(1600, np.float32)
_LANGUAGES = re.compile(r"the served model has ([a-z, ]+);")
_FAMILY = re.compile(r"\(family ([a-z0-9_-]+)\)")


class Description(NamedTuple):
    """What a recognizer is."""

    family: str
    """"" where the server does not tell it."""
    languages: tuple[str, ...]
    """ISO 639 codes."""


def description_in(refusal: str) -> Description:
    """Return what a server says of its model where it refuses a language."""
    family, languages = _FAMILY.search(refusal), _LANGUAGES.search(refusal)
    return Description(family[1] if family else "", tuple(languages[1].split(", ")) if languages else ())


async def recognizers(servers: Servers) -> list[str]:
    """Return the names of those that some server has ready, the default, which is "", first.

    Raises the AsrError of a server where none tells: servers off the loopback keep their list of models closed.
    """
    return sorted(
        name for name, missing in (await not_loaded(servers)).items() if _loop_of(servers, name) not in missing
    )


async def not_loaded(servers: Servers) -> dict[str, list[str]]:
    """Return all that some server has in its repository, each with those of its Triton models that are not loaded there.

    Of several servers the one that lacks least counts. Raises AsrError as :func:`recognizers` does.
    """
    told = await asyncio.gather(*(_of(each) for each in servers.endpoints), return_exceptions=True)
    of_servers = [each for each in told if isinstance(each, dict)]
    if not of_servers:
        raise next(each for each in told if isinstance(each, BaseException))
    found: dict[str, list[str]] = {}
    for each in of_servers:
        for name, missing in each.items():
            found[name] = min(found.get(name, missing), missing, key=len)
    return found


async def _of(endpoint: Endpoint) -> dict[str, list[str]]:
    index = await endpoint.control.ask("RepositoryIndex", service_pb2.RepositoryIndexRequest())
    own = endpoint.control.loop
    ready = {each.name: False for each in index.models}
    for each in index.models:  # once for each version
        ready[each.name] |= each.state == "READY"
    loops = [name for name in ready if name == own or name.endswith(_LOOP)]
    names = {"" if loop == own else loop.removesuffix(_LOOP): loop for loop in loops}
    # Models of others may have names that end alike: those that are not there at all are not missed.
    return {
        name: [each for each in ((name, f"{name}_file", loop) if name else (loop,)) if not ready.get(each, True)]
        for name, loop in names.items()
    }


def _loop_of(servers: Servers, name: str) -> str:
    return f"{name}{_LOOP}" if name else servers.endpoints[0].control.loop
