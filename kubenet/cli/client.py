"""The command line's end of the session's socket, and the start of the processes behind it.

    client = connect(state)                   the front answers; it was started, and the journal replayed, if it did not run
    client.call("status")                     one request, one answer: (header, body). Raises KubenetError
    for header, body in client.stream("exec", argv=[...]): ...         an answer in pieces; .tell("stdin", data) meanwhile

Two commands may start the front at once: one gets the session's lock, the other finds it taken, waits for the socket and
connects. Frames are those of engine/frames.py; op_* in engine/service.py are the requests.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kubenet.engine import frames
from kubenet.errors import KubenetError, WrongMomentError
from kubenet.server.session import Session

if TYPE_CHECKING:
    from kubenet.cli.command import State

Header = dict[str, Any]
EPOCH = 1767225600  # 2026-01-01T00:00:00Z
SEED = 7
PATIENCE = 30.0  # seconds for a front that another command is starting; replays report progress to that one
LAST = ("exit", "end", "error", "fatal")


class RemoteError(KubenetError):
    """An error that came over the wire, with its exit code."""

    def __init__(self, error: Header) -> None:
        super().__init__(error.get("what", "?"), error.get("why", ""), error.get("try", ""), error.get("at", ""))
        self.exit_code = int(error.get("exit", 1))
        self.kind = error.get("kind", "")


class Stream:
    """An answer in pieces. Iterate for its frames; the last one ends the iteration. Raises RemoteError."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number

    def __iter__(self) -> Iterator[frames.Frame]:
        while True:
            header, body = self.client.receive(self.number)
            yield header, body
            if any(key in header for key in LAST):
                return

    def tell(self, op: str, body: bytes = b"", **more: Any) -> None:
        """More about this request: stdin, eof, signal, cancel."""
        frames.send(self.client.sock, {"op": op, "id": self.number, **more}, body)


class Client:
    """One connection. `group` and `cmd` go with every request, so that undo and history know the command."""

    def __init__(self, sock: socket.socket, cmd: str = "") -> None:
        self.sock = sock
        self.number = 0
        self.cmd = cmd
        self.group = os.urandom(8).hex()

    def send(self, op: str, body: bytes = b"", **args: Any) -> int:
        """Send a request; its number."""
        self.number += 1
        header = {"op": op, "id": self.number, "group": self.group, "cmd": self.cmd, **args}
        try:
            frames.send(self.sock, header, body)
        except OSError as error:
            raise gone() from error
        return self.number

    def receive(self, number: int) -> frames.Frame:
        """The next frame about a request. Raises RemoteError if it is an error."""
        while True:
            try:
                frame = frames.receive(self.sock)
            except ConnectionError:
                frame = None
            if frame is None:
                raise gone()
            if frame[0].get("id") != number:
                continue  # of a request that was given up
            if "error" in frame[0]:
                raise RemoteError(frame[0]["error"])
            return frame

    def call(self, op: str, body: bytes = b"", **args: Any) -> frames.Frame:
        """One request and its answer. Raises RemoteError."""
        return self.receive(self.send(op, body, **args))

    def stream(self, op: str, body: bytes = b"", **args: Any) -> Stream:
        """A request that is answered in pieces."""
        return Stream(self, self.send(op, body, **args))

    def close(self) -> None:
        """Hang up; what is under way for us ends."""
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gone() -> KubenetError:
    """The error for a connection that broke."""
    return KubenetError("the session's process is gone", why="its last words are in the session's log",
                        try_="the command again: everything that was answered is in the journal")


def no_session(session: Session) -> WrongMomentError:
    """The error for commands that make no sense without a session."""
    return WrongMomentError(f"there is no session {session.name!r}", why=f"{session.journal} does not exist",
                            try_="kubenet up")


def try_connect(session: Session, timeout: float | None = None) -> socket.socket | None:
    """A connected socket, or None if nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(str(session.socket))
    except OSError:
        sock.close()
        return None
    return sock


def connect(state: State, start: bool = True, settings: Header | None = None, anyway: bool = False) -> Client:
    """A client of the session's front. start=False: only if there is something to start from, a journal. Raises KubenetError."""
    session = state.session()
    while (sock := try_connect(session)) is not None:
        client = Client(sock, state.line)
        if _answers(client):
            return client
        client.close()
        _wait_for_its_end(session)
    if not start and not session.exists():
        raise no_session(session)
    return Client(_start_and_connect(state, session, settings or {"seed": SEED, "epoch": EPOCH, "topology": None}, anyway), state.line)


def _answers(client: Client) -> bool:
    """False if engine or front have just died: the socket can still be connected to, and a real request would be lost in it."""
    try:
        client.call("ping")
    except RemoteError as error:
        return bool(error.kind != "Bug")  # what the front says for an engine that is gone
    except KubenetError:
        return False
    return True


def _wait_for_its_end(session: Session) -> None:
    """The front that cannot answer is about to go. KubenetError if it does not."""
    end = time.monotonic() + PATIENCE
    while session.running():
        if time.monotonic() > end:
            raise gone()
        time.sleep(0.005)


def _start_and_connect(state: State, session: Session, settings: Header, anyway: bool) -> socket.socket:
    session.make()
    new = not session.exists()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not session.running():
            error = _start_front(state, session, settings, anyway)
            if error is not None and not _others_start(session, error):
                if new:
                    session.forget_journal()
                raise error
            if error is None and new:
                state.talk(f"started session {session.name}: {describe_settings(settings)}")
                new = False
        sock = try_connect(session)
        if sock is not None:
            return sock
        time.sleep(0.02)
    raise WrongMomentError(f"session {session.name} is being started by process {session.pid() or '?'} and is not ready yet",
                           try_="the command again in a moment")


def _others_start(session: Session, error: KubenetError) -> bool:
    """True if our front gave way to one that another command started."""
    return error.exit_code == WrongMomentError.exit_code and session.running()


def describe_settings(settings: Header) -> str:
    """The session's cluster in a few words."""
    nodes = ((settings.get("topology") or {}).get("spec") or {}).get("nodes")
    name = ((settings.get("topology") or {}).get("metadata") or {}).get("name") or "three-nodes"
    return f"{name}, {len(nodes) if nodes else 3} nodes, seed {settings['seed']}"


def _start_front(state: State, session: Session, settings: Header, anyway: bool) -> KubenetError | None:
    """Start the front and wait until it serves; the error it reports instead."""
    import subprocess
    from pathlib import Path

    import kubenet

    reader, writer = os.pipe()
    root = str(Path(kubenet.__file__).resolve().parent.parent)
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    # PYTHONSAFEPATH: a file named json.py in the directory where the person stands must not become our json
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    argv = [sys.executable, "-m", "kubenet.server.front", "--session", session.name, "--settings", json.dumps(settings),
            "--ready-fd", str(writer), *(["--replay-anyway"] if anyway else [])]
    fd = os.open(session.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, pass_fds=[writer], env=environment,
                         start_new_session=True)
    finally:
        os.close(fd)
        os.close(writer)
    with os.fdopen(reader, "r") as pipe:
        return _until_ready(state, session, pipe)


def _until_ready(state: State, session: Session, pipe: Any) -> KubenetError | None:
    """Read what the front says while it starts; progress is shown once it takes longer than a second."""
    begin = time.monotonic()
    shown = False
    try:
        for line in pipe:
            message = json.loads(line)
            if message.get("ready"):
                return None
            if "error" in message:
                return RemoteError(message["error"])
            if "replayed" in message and time.monotonic() - begin > 1 and not state.quiet:
                shown = _progress(message, time.monotonic() - begin)
    finally:
        if shown and sys.stderr.isatty():
            print(file=sys.stderr)
    return KubenetError("the session's process did not start", why=_last_words(session), try_="kubenet reset")


def _progress(message: Header, seconds: float) -> bool:
    done, total = int(message["replayed"]), int(message["total"])
    left = seconds / max(done, 1) * (total - done)
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"replaying the journal: {done} of {total} inputs, about {left:.0f} s left ", end=end, file=sys.stderr, flush=True)
    return True


def _last_words(session: Session) -> str:
    try:
        lines = session.log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{session.log} ends with: {lines[-1]}" if lines else f"nothing is in {session.log}"
