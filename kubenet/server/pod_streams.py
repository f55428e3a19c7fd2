"""Streams to a pod over REST: `kubectl logs` and `kubectl exec`; port-forward is in port_forward.py.

    GET  .../pods/P/log?follow=true&tailLines=5       text, chunked while it is followed
    GET  .../pods/P/exec?command=ls&stdout=true       WebSocket, subprotocol v5.channel.k8s.io or v4.channel.k8s.io

The engine is asked first whether the stream may begin, so that a refusal is an ordinary HTTP answer and no command has run yet; then
for the very operations that `kubenet logs` and `kubenet exec` use: a command and its input are journaled, looking at a log is not.

A WebSocket message is one channel byte and data: 0 standard input, 1 and 2 output, 3 the final Status, 4 the terminal's size; in v5
also 255, whose data is the number of a channel that ended (standard input's end of file, which v4 cannot express).

Left out: attach, and SPDY without a WebSocket (exec of kubectl up to 1.29, port-forward up to 1.30).
Source: k8s.io/apimachinery/pkg/util/remotecommand, k8s.io/kubelet/pkg/cri/streaming/remotecommand websocket.go, exec.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from kubenet.server.port_forward import TUNNEL, Forwarding

if TYPE_CHECKING:
    from kubenet.server.front import EngineLink

Header = dict[str, Any]
Query = dict[str, list[str]]

PATH = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/(log|exec|attach|portforward)/?")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
NOT_STARTED = (126, 127)  # the engine's codes for a program that cannot be run, or is not there


async def serve(link: EngineLink, request: web.Request, query: Query, namespace: str, pod: str, verb: str) -> web.StreamResponse:
    """One request for a stream, to its end."""
    if request.method not in (("GET",) if verb == "log" else ("GET", "POST")):
        return _refuse(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    header = {"op": "pod_stream", "verb": verb, "namespace": namespace, "pod": pod, "query": query}
    answer, data = await link.answer(header)
    if "error" in answer:
        return _refuse(500, "InternalError", answer["error"]["what"])
    if answer["code"] != 200:
        return web.Response(status=answer["code"], headers=answer["headers"], body=data)
    wanted = answer["request"]
    if verb == "log":
        return await _log(link, request, wanted)
    if request.headers.get("Upgrade", "").lower() != "websocket":
        if "Upgrade" in request.headers:
            return _refuse(501, "NotImplemented", f"kubenet serves {verb} over WebSocket only, not over SPDY: use kubectl 1.31 or newer")
        return _refuse(400, "BadRequest", "Upgrade request required")
    offered = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if verb == "portforward":
        if TUNNEL not in offered:
            return _refuse(400, "BadRequest", f"unable to upgrade: none of {offered} is served for port-forward; {TUNNEL} is")
        return await Forwarding(link, wanted).run(request)
    if V5 not in offered and V4 not in offered:
        return _refuse(400, "BadRequest", f"unable to upgrade: none of {offered} is served; {V5} and {V4} are")
    return await _Exec(link, wanted).run(request)


def _refuse(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(_status(code, reason, message), status=code)


def _status(code: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> Header:
    """A Status of failure."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
            **({"details": {"causes": causes}} if causes else {}), "code": code}


# ---- logs


async def _log(link: EngineLink, request: web.Request, wanted: Header) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    if not wanted.pop("empty", False):
        await _copy_log(link, response, wanted)
    await response.write_eof()
    return response


async def _copy_log(link: EngineLink, response: web.StreamResponse, wanted: Header) -> None:
    """Write the log as it comes, up to limitBytes."""
    left = wanted.pop("limit", None)
    queue: asyncio.Queue[tuple[Header, bytes]] = asyncio.Queue()
    number = link.ask({"op": "logs", **wanted}, b"", lambda header, body: queue.put_nowait((header, body)))
    try:
        while left is None or left > 0:
            header, body = await queue.get()
            if not header.get("data"):
                return
            body = body[:left]
            left = None if left is None else left - len(body)
            await response.write(body)
    finally:
        link.drop(number)


# ---- exec


class _Exec:
    """One command, between a WebSocket and the engine."""

    def __init__(self, link: EngineLink, wanted: Header) -> None:
        self.link = link
        self.wanted = wanted
        self.argv: list[str] = wanted["argv"]
        self.queue: asyncio.Queue[tuple[Header, bytes]] = asyncio.Queue()
        self.number = 0

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Until the command ends or the client leaves."""
        socket = web.WebSocketResponse(protocols=(V5, V4), max_msg_size=0, compress=False)
        await socket.prepare(request)
        tty = self.wanted["tty"]
        channels = [n for n, name in ((STDOUT, "stdout"), (STDERR, "stderr")) if self.wanted[name] and not (tty and n == STDERR)]
        asked = {key: self.wanted[key] for key in ("target", "namespace", "container", "argv", "tty", "stdin")}
        pod = self.wanted["target"].partition("/")[2]
        command = f"kubectl exec {pod} -- {shlex.join(self.argv)}"
        await socket.send_bytes(bytes([(*channels, ERROR)[0]]))  # says the connection stands: createWebSocketStreams()
        self.number = self.link.ask({"op": "exec", "cmd": command, **asked}, b"", lambda *frame: self.queue.put_nowait(frame))
        reader = asyncio.create_task(self._read(socket))
        try:
            with contextlib.suppress(ConnectionError):
                await self._write(socket, channels)
        finally:
            self.link.drop(self.number)
            reader.cancel()
        return socket

    async def _write(self, socket: web.WebSocketResponse, channels: list[int]) -> None:
        while True:
            header, body = await self.queue.get()
            if "gone" in header:
                return
            if header.get("stream") in channels:
                await socket.send_bytes(bytes([header["stream"]]) + body)
            elif "exit" in header or "error" in header:
                await socket.send_bytes(bytes([ERROR]) + json.dumps(self.outcome(header)).encode())
                await socket.close()
                return

    def outcome(self, header: Header) -> Header:
        """The Status that ends the stream: success, an exit code, or why there is none."""
        if "error" in header:
            error = header["error"]
            message = f"{error['what']}: {error['why']}" if error["why"] else error["what"]
            if error["exit"] in NOT_STARTED:
                message = f"error executing command in container: failed to exec in container: failed to start exec: {message}: unknown"
            return _status(500, "InternalError", f"Internal error occurred: {message}", [{"message": message}])
        code = int(header["exit"])
        if code == 0:
            return {"metadata": {}, "status": "Success"}
        code = 128 - code if code < 0 else code
        said = f"error executing command [{' '.join(self.argv)}], exit code {code}"
        return {"metadata": {}, "status": "Failure", "message": f"command terminated with non-zero exit code: {said}",
                "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}

    async def _read(self, socket: web.WebSocketResponse) -> None:
        """Hand on what the client sends; tell the writer when it has left."""
        closed = False
        async for message in socket:
            if message.type != WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == STDIN and self.wanted["stdin"] and not closed and data:
                self.link.tell(self.number, {"op": "stdin"}, data)
            elif channel == CLOSE and socket.ws_protocol == V5 and data[:1] == bytes([STDIN]) and not closed:
                closed = True
                if self.wanted["stdin"]:
                    self.link.tell(self.number, {"op": "eof"})
            elif channel == RESIZE:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    size = json.loads(data)
                    self.link.tell(self.number, {"op": "resize", "rows": int(size["Height"]), "cols": int(size["Width"])})
        self.queue.put_nowait(({"gone": True}, b""))
