"""GET /health: says if a server is ready; with ?deep=1, if one really transcribes."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
from asrloop_client import AsrError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from asrloop_gateway.gateway import Gateway

_DEEP_SECONDS = 5.0
"""Reuse a deep answer for this long: anyone may ask, and each check costs a transcription."""
_SOUND = np.sin(np.arange(8000, dtype=np.float32) * 0.2) * 0.1


class Health:
    """Route /health. Does not reveal the servers' addresses."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._asking = asyncio.Lock()
        self._asked, self._works = -_DEEP_SECONDS, 0

    async def get(self, request: Request) -> Response:
        """Answer 200 with `ok`, or 503."""
        states = self._gateway.client.stats()
        ready = sum(state.ready for state in states)
        body = {"status": "ok" if ready else "unavailable", "servers": len(states), "ready": ready}
        if request.query_params.get("deep") in ("1", "true"):
            body["transcribing"] = works = await self._deep()
            body["status"] = "ok" if works else "unavailable"
        if self._gateway.closing.is_set():
            body["status"] = "closing"
        return JSONResponse(body, 200 if body["status"] == "ok" else 503)

    async def look(self) -> None:
        """Start to watch the servers."""
        with contextlib.suppress(AsrError):
            await self._gateway.client.health()

    async def _deep(self) -> int:
        async with self._asking:
            if time.monotonic() - self._asked >= _DEEP_SECONDS:
                self._works = 0
                with contextlib.suppress(AsrError, TimeoutError):
                    async with asyncio.timeout(_DEEP_SECONDS):
                        states = await self._gateway.client.health(deep=_SOUND)
                        self._works = sum(state.ready and state.seconds is not None for state in states)
                self._asked = time.monotonic()
            return self._works
