"""The console over HTTP: pages, the state as JSON and as a stream of server-sent events, and a button that verifies.

Nothing here writes to the bus. The page carries no value: scripts set text, never markup, and a strict policy lets the
browser load nothing from elsewhere and make no markup of strings.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import Trust
from seawall.ops.console._access import COOKIE, SESSION_S, Access
from seawall.ops.console._view import View
from seawall.ops.verify import trusted_logs, verify
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError

STATIC = Path(__file__).parent / "static"
TICK_S = 0.25  # between two looks of a stream at the version
BEAT_S = 15.0  # a stream that is silent says that it lives
STREAMS_MAX = 64
TOKEN_BYTES_MAX = 4096
FINDINGS_MAX = 20
REFUSED_S = 0.3
OPEN_PATHS = ("/login", "/static/", "/live")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Guard:
    """Lets through who may look, and puts the policy on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        request = Request(scope)
        session = request.cookies.get(COOKIE, ""), request.headers.get("authorization", "")
        if request.url.path.startswith(OPEN_PATHS) or self._access.allows(*session):
            await self._app(scope, receive, guarded)
        elif request.url.path in ("/", "/forecasts"):
            await RedirectResponse("/login", 303)(scope, receive, guarded)
        else:
            await Response("who asks? see seawall console --help\n", 401)(scope, receive, guarded)


class Console:
    """The answers of a console."""

    def __init__(self, configuration: Configuration, view: View, access: Access, secure: bool) -> None:
        self._configuration, self._view, self._access, self._secure = configuration, view, access, secure
        self._verifying = threading.Lock()
        self._streams = 0

    def routes(self) -> list[Route]:
        """Return what is answered where."""
        return [
            Route("/", _page("index.html")),
            Route("/forecasts", _page("forecasts.html")),
            Route("/login", _page("login.html"), methods=["GET"]),
            Route("/login", self._login, methods=["POST"]),
            Route("/static/{name}", _static),
            Route("/live", lambda _: Response("alive\n")),
            Route("/api/state", self._state),
            Route("/api/stream", self._stream),
            Route("/api/forecasts", self._forecasts),
            Route("/api/verify", self._verify, methods=["POST"]),
        ]

    async def _login(self, request: Request) -> Response:
        token = b""
        async for part in request.stream():
            token += part
            if len(token) > TOKEN_BYTES_MAX:
                return Response("a token is not so long\n", 413)
        if not self._access.is_token(token.decode("utf-8", "replace").strip()):
            await asyncio.sleep(REFUSED_S)
            return Response("this is not the token\n", 401)
        answer = Response(status_code=204)
        answer.set_cookie(
            COOKIE, self._access.begin(), SESSION_S, httponly=True, samesite="strict", secure=self._secure
        )
        return answer

    async def _state(self, _: Request) -> Response:
        return Response(self._view.text, media_type="application/json")

    async def _stream(self, request: Request) -> Response:
        if self._streams >= STREAMS_MAX:
            return Response("too many screens follow already\n", 503)
        return StreamingResponse(self._events(request), media_type="text/event-stream")

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the state whenever it changes."""
        sent, silent = -1, 0.0
        self._streams += 1
        try:
            while not await request.is_disconnected():
                version = self._view.version
                if version != sent:
                    sent, silent = version, 0.0
                    yield b"event: state\ndata: " + self._view.text + b"\n\n"
                elif silent >= BEAT_S:
                    silent = 0.0
                    yield b": still here\n\n"
                await asyncio.sleep(TICK_S)
                silent += TICK_S
        finally:
            self._streams -= 1

    async def _forecasts(self, _: Request) -> Response:
        return _json(await run_in_threadpool(self._view.foresight))

    async def _verify(self, request: Request) -> Response:
        """Verify everything; only from this page: other sites cannot send its header."""
        if request.headers.get("x-seawall") != "verify":
            return Response("ask with the header X-Seawall: verify\n", 403)
        if not self._verifying.acquire(blocking=False):
            return Response("a verification is under way\n", 409)
        try:
            return _json(await run_in_threadpool(self._verified))
        finally:
            self._verifying.release()

    def _verified(self) -> dict[str, Any]:
        found = self._configuration
        bus = open_bus(found.bus, found.directory)
        try:
            logs = trusted_logs(found)
            report = verify(bus, Trust.load(found), found.environment, found.issuer, logs, found.topics)
        except SeawallError as error:
            return {"good": False, "records": 0, "behind": 0, "findings": [str(error)], "more": 0}
        finally:
            bus.close()
        findings = [str(finding) for finding in report.findings]
        return {
            "good": not findings,
            "records": sum(report.records.values()),
            "behind": len(report.behind),
            "findings": findings[:FINDINGS_MAX],
            "more": max(0, len(findings) - FINDINGS_MAX),
        }


def make_app(
    configuration: Configuration, view: View, access: Access, hosts: list[str], secure: bool = False
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    hosts
        Names it is asked by; requests with another ``Host`` are refused, so that no foreign name can be bound to it.
    secure
        Whether it is served over TLS.
    """
    console = Console(configuration, view, access, secure)
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(Guard, access=access),
    ]
    return Starlette(routes=console.routes(), middleware=middleware)


def _page(name: str) -> Any:
    async def page(_: Request) -> Response:
        return FileResponse(STATIC / name, media_type="text/html; charset=utf-8")

    return page


async def _static(request: Request) -> Response:
    path = STATIC / Path(request.path_params["name"]).name
    if path.suffix not in KINDS or not path.is_file():
        return Response("there is no such file\n", 404)
    return FileResponse(path, media_type=KINDS[path.suffix])


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
