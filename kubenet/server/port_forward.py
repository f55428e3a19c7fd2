"""`kubectl port-forward`: connections of the host's, carried into a pod.

    GET .../pods/P/portforward      WebSocket, subprotocol SPDY/3.1+portforward.k8s.io (kubectl 1.31 and newer)

The WebSocket's messages are pieces of one SPDY byte stream (spdy.py). For each connection that kubectl accepts it opens two streams
with the same requestID: `error`, on which we may write one text, and `data`. A pair becomes one operation of the engine: a process in
the pod's namespace that connects to 127.0.0.1:PORT. What the host sends is journaled as its standard input, so a replay has it, too.

    the pod ends the connection     both streams end
    the host ends its direction     the pod's socket is shut down for writing; its answers still come
    no connection                   the reason goes to `error`; kubectl prints it, and gives up (it does so against any cluster)

Left out: kubectl up to 1.30 (SPDY without a WebSocket) and the Python client's v4.channel.k8s.io; both get an HTTP error that says so.
Source: k8s.io/apimachinery/pkg/util/portforward, k8s.io/kubelet/pkg/cri/streaming/portforward httpstream.go, KEP-4006.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from kubenet.server import spdy

if TYPE_CHECKING:
    from kubenet.server.front import EngineLink

Header = dict[str, Any]

TUNNEL = "SPDY/3.1+portforward.k8s.io"
DATA, ERROR = "data", "error"


class Pair:
    """One connection: its two streams, what came before both were there, and the engine's request (0: not asked yet)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: dict[str, int] = {}
        self.early: list[spdy.Data] = []
        self.number = 0


class Forwarding:
    """One `kubectl port-forward` at work."""

    def __init__(self, link: EngineLink, wanted: Header) -> None:
        self.link = link
        self.wanted = wanted
        self.spdy = spdy.Spdy()
        self.pairs: dict[str, Pair] = {}
        self.by_stream: dict[int, tuple[str, str]] = {}  # stream -> requestID, streamType
        self.leaving: asyncio.Queue[bytes] = asyncio.Queue()

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Until the client leaves."""
        socket = web.WebSocketResponse(protocols=(TUNNEL,), max_msg_size=0, compress=False)
        await socket.prepare(request)
        writer = asyncio.create_task(self._write(socket))
        try:
            async for message in socket:
                if message.type == WSMsgType.BINARY:
                    for frame in self.spdy.feed(message.data):
                        self._take(frame)
        except ValueError:
            await socket.close(code=1002)
        finally:
            for pair in self.pairs.values():
                if pair.number:
                    self.link.drop(pair.number)
            writer.cancel()
        return socket

    async def _write(self, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await socket.send_bytes(await self.leaving.get())

    def _send(self, data: bytes) -> None:
        self.leaving.put_nowait(data)

    # ---- from the client

    def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Open():
                self._open(frame)
            case spdy.Data():
                self._data(frame)
            case spdy.Reset():
                request_id, kind = self.by_stream.get(frame.stream, ("", ""))
                if kind == DATA:
                    self._forget(request_id)
            case spdy.Ping():
                self._send(spdy.ping_frame(frame.number))

    def _open(self, frame: spdy.Open) -> None:
        """A stream of a pair; with the second one the connection begins."""
        kind, port, request_id = (frame.headers.get(name, "") for name in ("streamtype", "port", "requestid"))
        pair = self.pairs.get(request_id)
        if kind not in (DATA, ERROR) or not port.isdecimal() or not 0 < int(port) < 65536 or pair is not None and kind in pair.streams:
            self._send(spdy.reset_frame(frame.stream))
            return
        self._send(self.spdy.reply(frame.stream))
        if pair is None:
            pair = self.pairs[request_id] = Pair(int(port))
        pair.streams[kind] = frame.stream
        self.by_stream[frame.stream] = request_id, kind
        if kind == DATA and frame.fin:
            pair.early.append(spdy.Data(frame.stream, b"", True))
        if len(pair.streams) == 2:
            self._begin(request_id, pair)

    def _begin(self, request_id: str, pair: Pair) -> None:
        command = f"kubectl port-forward {self.wanted['target']} :{pair.port}"
        ask = {"op": "forward", "cmd": command, "target": self.wanted["target"], "namespace": self.wanted["namespace"], "port": pair.port}
        pair.number = self.link.ask(ask, b"", lambda header, body: self._answer(request_id, pair, header, body))
        for frame in pair.early:
            self._data(frame)

    def _data(self, frame: spdy.Data) -> None:
        request_id, kind = self.by_stream.get(frame.stream, ("", ""))
        pair = self.pairs.get(request_id)
        if kind != DATA or pair is None:
            return
        if not pair.number:
            pair.early.append(frame)
            return
        if frame.data:
            self.link.tell(pair.number, {"op": "stdin"}, frame.data)
        if frame.fin:
            self.link.tell(pair.number, {"op": "eof"})

    # ---- from the engine

    def _answer(self, request_id: str, pair: Pair, header: Header, body: bytes) -> None:
        if "stream" in header:
            self._send(spdy.data_frame(pair.streams[DATA if header["stream"] == 1 else ERROR], body))
        elif "exit" in header or "error" in header:
            if "error" in header:
                self._send(spdy.data_frame(pair.streams[ERROR], str(header["error"]["what"]).encode()))
            for kind in (DATA, ERROR):
                self._send(spdy.data_frame(pair.streams[kind], b"", fin=True))
            self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        """The connection is over."""
        pair = self.pairs.pop(request_id, None)
        if pair is None:
            return
        for stream in pair.streams.values():
            self.by_stream.pop(stream, None)
        if pair.number:
            self.link.drop(pair.number)
