"""Kubernetes' REST over TLS: every path is handed to the engine as it came.

A request must carry the session's bearer token, name this endpoint in its Host header, and have no Origin of a web page: any
process or page on the machine can reach a loopback port, and whoever is let in can run programs in pods. A watch is one
chunked answer of JSON lines that ends when the client goes away. Logs and exec are in pod_streams.py.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kubenet.server import pod_streams, tls
from kubenet.server.session import Session

if TYPE_CHECKING:
    from kubenet.server.front import EngineLink

MAX_BODY = 32 << 20
FORWARDED = ("content-type", "accept", "user-agent", "if-none-match")


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
            "code": code}
    return web.json_response(body, status=code)


class Rest:
    """The handlers, bound to one session."""

    def __init__(self, link: EngineLink, token: str) -> None:
        self.link = link
        self.expected = f"Bearer {token}"
        self.port = 0

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why the request is not let in, or None."""
        if request.host not in (f"127.0.0.1:{self.port}", f"localhost:{self.port}"):
            return _status(403, "Forbidden", f"host {request.host!r} is not this server")
        if "Origin" in request.headers:
            return _status(403, "Forbidden", "requests of web pages are not answered")
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), self.expected.encode()):
            return _status(401, "Unauthorized", "Unauthorized")
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        refused = self.refusal(request)
        if refused is not None:
            return refused
        query = {key: request.query.getall(key) for key in dict.fromkeys(request.query)}
        headers = {key: request.headers[key] for key in FORWARDED if key in request.headers}
        header = {"path": request.path, "query": query, "headers": headers}
        if found := pod_streams.PATH.fullmatch(request.path):
            return await pod_streams.serve(self.link, request, query, *found.groups())
        if request.method == "GET" and query.get("watch", ["false"])[0] in ("true", "1"):
            return await self._watch(request, header)
        body = await request.read()
        answer, data = await self.link.answer({"op": "http", "method": request.method, "settle": True, **header}, body)
        if "error" in answer:
            return _status(500, "InternalError", answer["error"]["what"])
        return web.Response(status=answer["code"], headers=answer["headers"], body=data)

    async def _watch(self, request: web.Request, header: dict[str, Any]) -> web.StreamResponse:
        queue: asyncio.Queue[tuple[dict[str, Any], bytes]] = asyncio.Queue()
        number = self.link.ask({"op": "watch", **header}, b"", lambda h, b: queue.put_nowait((h, b)))
        try:
            first, data = await queue.get()
            if "error" in first:
                return _status(500, "InternalError", first["error"]["what"])
            if first["code"] != 200:
                return web.Response(status=first["code"], headers=first["headers"], body=data)
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            while True:
                event, line = await queue.get()
                if not event.get("event"):
                    break
                await response.write(line)
            await response.write_eof()
            return response
        finally:
            self.link.drop(number)


async def serve_rest(link: EngineLink, session: Session) -> None:
    """Listen on a free port of 127.0.0.1 (the one of last time, if it is free) and write the kubeconfig."""
    rest = Rest(link, tls.token(session))
    context = tls.server_context(session)
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_route("*", "/{path:.*}", rest.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        for port in (_last_port(session), 0):
            site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
            try:
                await site.start()
                break
            except OSError:
                if port == 0:
                    raise
        assert site._server is not None
        rest.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        (session.dir / "port.json").write_text(json.dumps(rest.port))
        tls.write_kubeconfig(session, rest.port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _last_port(session: Session) -> int:
    try:
        return int(json.loads((session.dir / "port.json").read_text()))
    except (OSError, ValueError):
        return 0
