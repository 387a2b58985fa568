"""Routes, and the parts that all responses share: a request id, security headers, errors in OpenAI's shape."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asrloop_gateway.errors import LOG, ApiError
from asrloop_gateway.fields import TRANSLATE
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.health import Health
from asrloop_gateway.live import LiveStreams
from asrloop_gateway.logs import ADDRESS
from asrloop_gateway.realtime import Realtime
from asrloop_gateway.recognizers import DEFAULT
from asrloop_gateway.transcriptions import Transcriptions

_PAGE = Path(__file__).parent / "page"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self)",
}


def make_app(gateway: Gateway) -> Starlette:
    """Return the gateway as an ASGI application."""
    transcriptions, translations = Transcriptions(gateway), Transcriptions(gateway, TRANSLATE)
    live, realtime = LiveStreams(gateway), Realtime(gateway)
    health = Health(gateway)

    async def page(_: Request) -> Response:
        return FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    async def metrics(request: Request) -> Response:
        gateway.admission.admit(request)
        return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def served() -> dict[str, dict[str, Any]]:
        default = sorted({name for state in gateway.client.stats() for name, loaded in state.models.items() if loaded})
        recognizer_of = dict.fromkeys(default, DEFAULT) | {name: name for name in await gateway.recognizers.names()}
        described = {each: await gateway.described(each) for each in set(recognizer_of.values())}
        return {
            name: {
                "id": name,
                "object": "model",
                "created": gateway.started,
                "owned_by": "asrloop",
                **described[recognizer],
            }
            for name, recognizer in recognizer_of.items()
        }

    async def models(request: Request) -> Response:
        """List the servers' models that the gateway uses. Requests may give any other name as well."""
        gateway.admission.admit(request)
        return JSONResponse({"object": "list", "data": [*(await served()).values()]})

    async def model(request: Request) -> Response:
        """Describe one of these models."""
        gateway.admission.admit(request)
        name, known = request.path_params["name"], await served()
        if name not in known:
            message = f"The model {name!r:.80} does not exist. There are {', '.join(known) or 'none now'}."
            raise ApiError(404, "model_not_found", message, param="model")
        return JSONResponse(known[name])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await health.look()
        yield
        await gateway.client.close()

    allowed = list(gateway.settings.allowed_origins)
    return Starlette(
        routes=[
            Route("/", page),
            Mount("/page", StaticFiles(directory=_PAGE)),
            Route("/health", health.get),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/audio/transcriptions", transcriptions.post, methods=["POST"]),
            Route("/v1/audio/translations", translations.post, methods=["POST"]),
            WebSocketRoute("/v1/stream", live.serve),
            WebSocketRoute("/v1/realtime", realtime.serve),
        ],
        middleware=[
            Middleware(_Common),
            *(
                [
                    Middleware(
                        CORSMiddleware,
                        allow_origins=allowed,
                        allow_methods=["*"],
                        allow_headers=["*"],
                        expose_headers=["Retry-After", "X-Request-ID"],
                        allow_private_network=True,
                    )
                ]
                if allowed
                else []
            ),
        ],
        exception_handlers={ApiError: _told, HTTPException: _no_route},
        lifespan=lifespan,
    )


class _Common:
    """Middleware that gives each request an id and each response the common headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope.get("client"):
            ADDRESS.set(scope["client"][0])  # behind a proxy only now known
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update({**_HEADERS, "X-Request-ID": request_id})
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            LOG.exception("%s: the request failed", request_id)
            if started:
                raise
            error = ApiError(500, "failed", f"The request failed. Give the operator this id: {request_id}.")
            await error.response()(scope, receive, send_with_headers)


async def _told(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error.response()


async def _no_route(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = f"{request.method} {request.url.path}: {error.detail}. See docs/gateway.md for the routes."
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    response = ApiError(error.status_code, code, message).response()
    response.headers.update(error.headers or ({"Allow": "GET, HEAD"} if error.status_code == 405 else {}))
    return response
