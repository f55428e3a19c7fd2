"""A session without an emulator: a socket that answers the command line's frames.

Kubernetes' REST is the real API over a real store, in which no controller lives: what a test puts there stays as it is.
Everything else (exec, logs, run, ...) is scripted by the test and remembered in `asked`.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from kubenet.cluster.api.rest import Api
from kubenet.cluster.api.status import ApiError
from kubenet.cluster.store import EPOCH_S, Store
from kubenet.engine import frames
from kubenet.server.session import Session
from kubenet.sim.clock import EventLoop

Obj = dict[str, Any]
BOOT = 1_767_225_600


class FakeSession:
    """Serves one session on its socket, holding its lock, until `stop`."""

    def __init__(self, name: str = "default") -> None:
        self.session = Session(name)
        self.session.make()
        self.lock: int | None = self.session.acquire()
        self.loop = EventLoop()
        self.store = Store(self.loop, EPOCH_S, 7)
        self.api = Api(self.store, self.loop, EPOCH_S, 7)
        self.asked: list[Obj] = []  # every request but http, with its body under "body"
        self.http: list[Obj] = []
        self.answers: dict[str, Obj] = {}  # op -> the answer's header
        self.errors: dict[str, Obj] = {}  # op -> the error to answer with
        self.output: list[tuple[int, bytes]] = []
        self.exit_code = 0
        self.echo_stdin = False
        self.wait_for_signal = False
        self.log = b""
        self.silent = False
        self.on_watch: Callable[[], Any] = lambda: None
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(str(self.session.socket))
        self.server.listen(8)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """The socket and the lock are gone."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.server.close()
        self.session.socket.unlink(missing_ok=True)

    # ---- objects

    def put(self, obj: Obj, namespace: str = "default", status: Obj | None = None) -> Obj:
        """An object is in the store, as if somebody had applied it and a controller had written its status."""
        meta = {"namespace": namespace, **obj["metadata"]} if namespace else obj["metadata"]
        stored, _, _ = self.api.apply({**obj, "metadata": meta})
        if status is not None:
            self.store.update_status({**stored, "status": status})
        return stored

    def namespace(self, name: str) -> None:
        """A namespace."""
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "")

    def pod(self, name: str, ip: str = "10.48.2.7", node: str = "node-2", namespace: str = "default",
            labels: dict[str, str] | None = None, ready: bool = True) -> None:
        """A pod that runs (or, not ready, waits for its image)."""
        container = {"name": "web", "image": "nginx:1.27", "ports": [{"name": "http", "containerPort": 80}]}
        spec = {"nodeName": node, "containers": [container]}
        state: Obj = {"running": {"startedAt": "2026-01-01T00:00:01Z"}} if ready else {
            "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nginx:1.27"'}}
        word = "True" if ready else "False"
        status = {
            "phase": "Running" if ready else "Pending", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "172.18.0.3",
            "startTime": "2026-01-01T00:00:01Z",
            "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": "2026-01-01T00:00:01Z"}],
            "containerStatuses": [{"name": "web", "ready": ready, "restartCount": 0, "image": "nginx:1.27", "imageID": "",
                                   "state": state}],
        }
        meta = {"name": name, "labels": labels or {"app": "web"}}
        self.put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, namespace, status)

    # ---- the socket

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._client, args=(connection,), daemon=True).start()

    def _client(self, connection: socket.socket) -> None:
        with connection:
            try:
                while (frame := frames.receive(connection)) is not None:
                    if not self.silent:
                        self._answer(connection, *frame)
            except OSError:
                return

    def _answer(self, connection: socket.socket, header: Obj, body: bytes) -> None:
        op, number = header["op"], header["id"]
        if op == "ping":
            return frames.send(connection, {"id": number})
        (self.http if op == "http" else self.asked).append({**header, "body": body})
        method = getattr(self, f"op_{op}", None)
        if op in self.errors:
            reply: Obj | None = {"error": {"what": "?", "why": "", "try": "", "at": "", "exit": 1, "kind": "", **self.errors[op]}}
            data = b""
        elif method is not None:
            found = method(connection, header, body)
            reply, data = found if isinstance(found, tuple) else (found, b"")
        else:
            reply, data = self.answers.get(op, {}), b""
        if reply is not None:
            frames.send(connection, {"id": number, **reply}, data)
        if op == "shutdown":
            self.stop()
        return None

    def op_http(self, connection: socket.socket, header: Obj, body: bytes) -> tuple[Obj, bytes]:
        response = self.api.request(header["method"], header["path"], header["query"], header["headers"], body)
        return {"code": response.code, "headers": response.headers}, response.body

    def op_watch(self, connection: socket.socket, header: Obj, body: bytes) -> Obj:
        """What `on_watch` does, and the end."""
        try:
            stream = self.api.watch(header["path"], header["query"], header["headers"])
        except ApiError as error:
            return {"error": {"what": str(error), "why": "", "try": "", "at": "", "exit": 1}}
        frames.send(connection, {"id": header["id"], "code": 200, "headers": []})
        self.on_watch()
        for event in stream.poll():
            frames.send(connection, {"id": header["id"], "event": True}, json.dumps(event).encode() + b"\n")
        return {"end": True}

    def op_exec(self, connection: socket.socket, header: Obj, body: bytes) -> Obj | None:
        frames.send(connection, {"id": header["id"], "started": 1})
        for stream, data in self.output:
            frames.send(connection, {"id": header["id"], "stream": stream}, data)
        if self.wait_for_signal or self.echo_stdin:
            return None
        return {"exit": self.exit_code, "now": 0}

    def op_stdin(self, connection: socket.socket, header: Obj, body: bytes) -> Obj | None:
        return ({"stream": 1}, body) if self.echo_stdin else None  # type: ignore[return-value]

    def op_eof(self, connection: socket.socket, header: Obj, body: bytes) -> Obj | None:
        return {"exit": self.exit_code, "now": 0}

    def op_signal(self, connection: socket.socket, header: Obj, body: bytes) -> Obj | None:
        return {"exit": 128 + header["signal"], "now": 0}

    def op_cancel(self, connection: socket.socket, header: Obj, body: bytes) -> None:
        return None

    def op_resize(self, connection: socket.socket, header: Obj, body: bytes) -> None:
        return None

    def op_logs(self, connection: socket.socket, header: Obj, body: bytes) -> Obj:
        frames.send(connection, {"id": header["id"], "data": True}, self.log)
        return {"end": True}

    def op_settle(self, connection: socket.socket, header: Obj, body: bytes) -> Obj:
        return self.answers.get("settle", {"ok": True, "now": 2_110_000_000, "waiting": []})

    def op_pcap_stop(self, connection: socket.socket, header: Obj, body: bytes) -> tuple[Obj, bytes]:
        return {"packets": 3}, b"PCAP"
