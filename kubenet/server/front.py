"""The front: one process beside the engine that speaks with everybody else.

    command line  -- unix socket (0600), frames -->  front  -- socketpair, frames -->  engine
    kubectl       -- TLS on 127.0.0.1, bearer token, Kubernetes' REST -->  front

It keeps no state of its own but who asked what: requests get a number of the front's towards the engine and their own back.
If the engine dies, every open request is told so and the front ends; if the front dies, the engine reads end of file and ends.
The next command starts both, and the journal has everything that was answered.

Started as `python -m kubenet.server.front --session NAME --ready-fd N`; what it has to say until it is ready (replay progress,
an error) it writes to that descriptor as JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from kubenet.engine import frames
from kubenet.errors import KubenetError
from kubenet.server.session import Session

Header = dict[str, Any]
Reply = Callable[[Header, bytes], None]

LAST = ("exit", "end", "error", "fatal")  # keys that end an answer in pieces
IN_PIECES = ("exec", "forward", "logs", "watch")
CONTINUES = ("stdin", "eof", "signal", "resize", "cancel")


class EngineLink:
    """The connection to the engine, shared by all clients."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.number = 0
        self.pending: dict[int, tuple[Reply, bool]] = {}  # number -> (who gets the answer, whether it comes in pieces)
        self.down = asyncio.Event()

    def ask(self, header: Header, body: bytes, reply: Reply) -> int:
        """Send a request; `reply` is called with every frame of the answer. The number it got."""
        self.number += 1
        self.pending[self.number] = (reply, header.get("op") in IN_PIECES)
        self.writer.write(frames.pack({**header, "id": self.number}, body))
        return self.number

    def tell(self, number: int, header: Header, body: bytes = b"") -> None:
        """More about a request that is under way; no answer."""
        if number in self.pending:
            self.writer.write(frames.pack({**header, "id": number}, body))

    def drop(self, number: int) -> None:
        """Whoever asked has gone away: the engine ends the request, and what still comes of it goes nowhere."""
        self.tell(number, {"op": "cancel"})
        self.pending.pop(number, None)

    async def answer(self, header: Header, body: bytes = b"") -> frames.Frame:
        """Ask, and wait for an answer of one frame."""
        future: asyncio.Future[frames.Frame] = asyncio.get_running_loop().create_future()

        def reply(answer: Header, data: bytes) -> None:
            if not future.done():
                future.set_result((answer, data))

        self.ask(header, body, reply)
        return await future

    async def pump(self) -> None:
        """Hand out answers until the engine is gone; then tell everyone who waits."""
        unpacker = frames.Unpacker()
        reason = "the engine ended"
        while data := await self._read():
            for header, body in unpacker.feed(data):
                if header.get("fatal"):
                    reason = header["error"]["what"]
                    continue
                self._deliver(header, body)
        error = {"what": reason, "why": "its last words are in the session's log", "at": "", "exit": 70,
                 "try": "run the command again: the session's journal has everything that was answered", "kind": "Bug"}
        for number in list(self.pending):
            self._deliver({"id": number, "error": error}, b"")
        self.down.set()

    async def _read(self) -> bytes:
        """What the engine sends next; b"" once it is gone, however it went."""
        try:
            return await self.reader.read(1 << 20)
        except ConnectionError:
            return b""

    def _deliver(self, header: Header, body: bytes) -> None:
        number = header.get("id", 0)
        found = self.pending.get(number)
        if found is None:
            return
        reply, in_pieces = found
        if not in_pieces or any(key in header for key in LAST):
            del self.pending[number]
        reply(header, body)


async def serve_cli(link: EngineLink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One command line on the unix socket: its frames go to the engine and back, with numbers exchanged."""
    unpacker = frames.Unpacker()
    numbers: dict[int, int] = {}  # the client's id -> the engine's

    def reply_to(mine: int) -> Reply:
        def reply(header: Header, body: bytes) -> None:
            if not writer.is_closing():
                writer.write(frames.pack({**header, "id": mine}, body))
        return reply

    try:
        while data := await reader.read(1 << 16):
            for header, body in unpacker.feed(data):
                mine = int(header.get("id", 0))
                if header.get("op") in CONTINUES:
                    link.tell(numbers.get(mine, -1), header, body)
                else:
                    numbers[mine] = link.ask(header, body, reply_to(mine))
            await writer.drain()
    except (ConnectionError, ValueError):
        pass
    finally:
        for number in numbers.values():
            link.tell(number, {"op": "cancel"})
        writer.close()


def start_engine(session: Session) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The engine process and our end of the connection."""
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "kubenet.engine.main", "--fd", str(theirs.fileno()), "--session", str(session.dir)],
        pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
    )
    theirs.close()
    return ours, process


class Ready:
    """What the command that started us reads: JSON lines on a pipe, then its end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def say(self, message: Header) -> None:
        """One line; nobody listening is fine."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self.fd, json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Nothing more will be said."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


async def run(session: Session, settings: Header, anyway: bool, ready: Ready) -> int:
    """Serve the session until the engine goes or somebody shuts us down."""
    ours, _ = start_engine(session)
    reader, writer = await asyncio.open_connection(sock=ours)
    link = EngineLink(reader, writer)
    writer.write(frames.pack({"settings": settings, "anyway": anyway}))
    if not await _engine_ready(link, ready):
        return 1
    pump = asyncio.create_task(link.pump())
    with contextlib.suppress(FileNotFoundError):
        session.socket.unlink()
    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(lambda r, w: serve_cli(link, r, w), path=str(session.socket))
    finally:
        os.umask(mask)
    ready.say({"ready": True})
    ready.close()
    api = asyncio.create_task(_serve_api(link, session))
    await link.down.wait()
    await asyncio.sleep(0.05)  # let the last answers leave
    api.cancel()
    server.close()
    pump.cancel()
    with contextlib.suppress(FileNotFoundError):
        session.socket.unlink()
    return 0


async def _engine_ready(link: EngineLink, ready: Ready) -> bool:
    """Pass on what the engine says while it boots or replays; True once it serves."""
    while True:
        try:
            length = await link.reader.readexactly(4)
            data = await link.reader.readexactly(int.from_bytes(length, "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            ready.say({"error": {"what": "the engine did not start", "why": "its last words are in the session's log",
                                 "try": "kubenet reset", "at": "", "exit": 70}})
            return False
        header = frames.Unpacker().feed(length + data)[0][0]
        if "ready" not in header:
            ready.say(header)
            continue
        if not header["ready"]:
            ready.say({"error": header["error"]})
        return bool(header["ready"])


async def _serve_api(link: EngineLink, session: Session) -> None:
    """Kubernetes' REST over TLS; imported only now, because the command line does not need it."""
    serve: Callable[[EngineLink, Session], Awaitable[None]]
    from kubenet.server.rest import serve_rest as serve

    try:
        await serve(link, session)
    except OSError as error:
        print(f"no TLS endpoint: {error}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """The front process."""
    parser = argparse.ArgumentParser(prog="kubenet-front")
    parser.add_argument("--session", required=True)
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--replay-anyway", action="store_true")
    parser.add_argument("--ready-fd", type=int, default=-1)
    options = parser.parse_args(argv)
    ready = Ready(options.ready_fd)
    try:
        session = Session(options.session)
        session.make()
        lock = session.acquire()
    except KubenetError as error:
        ready.say({"error": {"what": error.what, "why": error.why, "try": error.try_, "at": error.at, "exit": error.exit_code}})
        return 1
    except OSError as error:
        ready.say({"error": {"what": "the session's directory cannot be written", "why": str(error), "try": "df -h   (is there space?)",
                             "at": "", "exit": 1}})
        return 1
    try:
        return asyncio.run(run(session, json.loads(options.settings), options.replay_anyway, ready))
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
