"""The recognizers of servers: the default, and those that stand beside it by name."""

from __future__ import annotations

import asyncio

from tritonclient.grpc import service_pb2

from asrloop_client.endpoints import Endpoint
from asrloop_client.servers import Servers

_LOOP = "_loop"


async def recognizers(servers: Servers) -> list[str]:
    """Return the names of those that some server has ready, the default, which is "", first.

    Raises the AsrError of a server where none tells: servers off the loopback keep their list of models closed.
    """
    told = await asyncio.gather(*(_of(each) for each in servers.endpoints), return_exceptions=True)
    names = [each for each in told if isinstance(each, set)]
    if not names:
        raise next(each for each in told if isinstance(each, BaseException))
    return sorted(set().union(*names))


async def _of(endpoint: Endpoint) -> set[str]:
    index = await endpoint.control.ask("RepositoryIndex", service_pb2.RepositoryIndexRequest(ready=True))
    own = endpoint.control.loop
    loops = {each.name for each in index.models if each.name == own or each.name.endswith(_LOOP)}
    return {"" if loop == own else loop.removesuffix(_LOOP) for loop in loops}
