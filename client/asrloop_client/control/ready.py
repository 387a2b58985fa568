"""Readiness: to wait until a server answers and has a model."""

from __future__ import annotations

import asyncio
import contextlib

from asrloop_client.errors import AsrError, DeadlineExceeded
from asrloop_client.servers import Servers


async def start(servers: Servers) -> None:
    """Connect to all servers. Raises ServerGone if none answers, ModelNotReady if none has a model in time."""
    await _wait(servers, servers.settings.timeout, patient=False)


async def wait_until_ready(servers: Servers, timeout: float) -> None:
    """Return when a server and a model of it answer. Raises DeadlineExceeded after `timeout` s."""
    try:
        await _wait(servers, timeout, patient=True)
    except AsrError as why:
        raise DeadlineExceeded(f"no server was ready within {timeout:g} s: {why}") from None


async def _wait(servers: Servers, timeout: float, patient: bool) -> None:
    """Unless `patient`, raise at once when no server answers, and with `fail_fast` when none has a model."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for probe in asyncio.as_completed([each.probe() for each in servers.endpoints]):
                if await probe:
                    return
            if patient or (any(each.is_in for each in servers.endpoints) and not servers.settings.fail_fast):
                waits = 0
                while not any(each.is_ready for each in servers.endpoints):
                    waits += 1
                    await servers.wait_for_news(waits)
                return
    raise servers.none_serves(servers.settings.model)
