"""What the front may ask of the engine: one method per request, over frames (frames.py).

Requests carry the front's `id` and every reply repeats it. Inputs may carry `group` (one command of a person; undo takes it as
a whole) and `cmd`, its text. Long requests (exec, run, settle, logs -f, watch) answer in pieces and end with `end` or `exit`.

Between requests the loop works for those who wait (engine.work), at most SLICE of host time before it looks at the
connection again: a `get` answers while a long run goes on. With watchers or followers attached and nobody waiting, the clock
is paced 1:1 against the host's; the order of events is the same in every mode.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from kubenet.cluster import replay
from kubenet.cluster.api.status import ApiError
from kubenet.cluster.cluster import SETTLE_STEP, Cluster
from kubenet.cluster.pod_streams import KubeletError, prepare
from kubenet.cluster.settle import blocked
from kubenet.engine import checkpoint, frames, moments
from kubenet.engine.engine import CHECK, Engine, Wait
from kubenet.errors import KubenetError, NotFoundError, UsageError, WrongMomentError
from kubenet.query import doctor
from kubenet.query import trace as trace_query
from kubenet.sim.clock import FOREVER
from kubenet.units import MSEC, SEC

SLICE = 0.005  # host seconds
QUIET_SETTLE = 30 * SEC  # virtual time that the consequences of a write over REST may take
TYPING_STEP = 10 * MSEC  # virtual time between two looks at whether a command waits for its input
WRITES = ("POST", "PUT", "PATCH", "DELETE")
KEPT_HEADERS = ("content-type", "accept", "user-agent")

Header = dict[str, Any]


class Stream:
    """A request that is answered over time: a watch or a followed log. `poll` sends what is new; True when it is over."""

    def __init__(self, poll: Callable[[], bool], close: Callable[[], None]) -> None:
        self.poll = poll
        self.close = close


class Service:
    """The engine's side of the connection to the front."""

    def __init__(self, engine: Engine, front: socket.socket, session: str) -> None:
        self.engine = engine
        self.front = front
        self.session = session
        self.unpacker = frames.Unpacker()
        self.streams: dict[int, Stream] = {}
        self.execs: dict[int, int] = {}  # request id -> exec id
        self.pcaps: dict[str, Any] = {}
        self.running = True
        self.pace_start: tuple[float, int] | None = None

    @property
    def cluster(self) -> Cluster:
        return self.engine.cluster

    # ---- the loop

    def serve(self) -> None:
        """Answer until the front goes away."""
        while self.running:
            self._read(self._patience())
            if self.engine.waits and not self._only_servers_wait():
                end = time.monotonic() + SLICE
                while self.engine.waits and time.monotonic() < end and not self._only_servers_wait():
                    self.engine.work(CHECK)
            elif self.streams or self.engine.waits:
                self._pace()
            self._poll_streams()

    def _patience(self) -> float | None:
        if self.engine.waits and not self._only_servers_wait():
            self.pace_start = None
            return 0
        if not self.streams and not self.engine.waits:
            self.pace_start = None
            return None
        due = self.cluster.loop.next_time()
        wait = (due - self._paced_now()) / SEC if due != FOREVER else 1.0
        return min(max(wait, 0.0), 0.05)

    def _only_servers_wait(self) -> bool:
        """Every command under way is one that waits for others (nc -l, tcpdump): to rush on would leap over years."""
        return all(getattr(wait, "idle", _never)() for wait in self.engine.waits)

    def _paced_now(self) -> int:
        """Where the wall clock says virtual time should be."""
        if self.pace_start is None:
            self.pace_start = (time.monotonic(), self.cluster.loop.now)
        wall, virtual = self.pace_start
        return virtual + int((time.monotonic() - wall) * SEC)

    def _pace(self) -> None:
        target = self._paced_now()
        end = time.monotonic() + SLICE
        while time.monotonic() < end and self.cluster.loop.next_time() <= target:
            self.engine.run_paced(target, CHECK)
            self.engine.work(0)

    def _poll_streams(self) -> None:
        for number, stream in list(self.streams.items()):
            if stream.poll():
                stream.close()
                self.streams.pop(number, None)
                self._end_paced()

    def _end_paced(self) -> None:
        if not self.streams:
            self.engine.mark()
            self.pace_start = None

    def _read(self, patience: float | None) -> None:
        ready, _, _ = select.select([self.front], [], [], patience)
        if not ready:
            return
        try:
            data = self.front.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.running = False
            return
        for header, body in self.unpacker.feed(data):
            self.handle(header, body)

    # ---- requests

    def reply(self, header: Header, body: bytes = b"") -> None:
        """Send one frame to the front."""
        try:
            frames.send(self.front, header, body)
        except OSError:
            self.running = False

    def handle(self, header: Header, body: bytes) -> None:
        """Answer one request; errors become replies."""
        op = header.get("op", "")
        method = getattr(self, f"op_{op}", None)
        try:
            if method is not None:
                answer = method(header, body)
            elif op in moments.OPERATIONS:
                answer = moments.OPERATIONS[op](self, header)
            else:
                raise UsageError(f"unknown request {op!r}")
        except KubenetError as error:
            self.reply({"id": header.get("id"), "error": error_json(error)})
            return
        if answer is not None:
            self.reply({"id": header["id"], **answer})

    def _input(self, header: Header, kind: str, data: dict[str, Any]) -> Any:
        return self.engine.put(kind, data, header.get("group", ""), header.get("cmd", ""))

    def op_http(self, header: Header, body: bytes) -> None:
        """A Kubernetes REST request. Reads are not inputs."""
        method, path, query = header["method"], header["path"], header.get("query", {})
        headers = {k: v for k, v in header.get("headers", {}).items() if k in KEPT_HEADERS}
        if method in WRITES and not query.get("dryRun"):
            data = {"method": method, "path": path, "query": query, "headers": headers,
                    "body": base64.b64encode(body).decode()}
            response = self._input(header, "api", data)
        else:
            response = self.cluster.api.request(method, path, query, headers, body)
        self.reply({"id": header["id"], "code": response.code, "headers": response.headers}, response.body)
        if header.get("settle") and method in WRITES and response.code < 300:
            self._settle_quietly()

    def _settle_quietly(self) -> None:
        """A client that cannot ask for time (kubectl) wrote something: let its consequences happen, as fast as they can."""
        if not any(wait.done == self.cluster.settled for wait in self.engine.waits):
            deadline = self.cluster.loop.now + QUIET_SETTLE
            self.engine.waits.append(Wait(deadline, self.cluster.settled, lambda ok: self.engine.mark(), SETTLE_STEP))

    def op_watch(self, header: Header, body: bytes) -> None:
        """A watch: pushes JSON lines until cancelled or timed out (timeoutSeconds, of the wall clock)."""
        number = header["id"]
        try:
            watch = self.cluster.api.watch(header["path"], header.get("query", {}), header.get("headers", {}))
        except ApiError as error:
            refused = {"id": number, "code": error.code, "headers": [["Content-Type", "application/json"]], "end": True}
            return self.reply(refused, json.dumps(error.status()).encode())
        self.reply({"id": number, "code": 200, "headers": [["Content-Type", "application/json"]]})
        limit = header.get("query", {}).get("timeoutSeconds")
        end = time.monotonic() + float(limit[0]) if limit else None

        def poll() -> bool:
            for event in watch.poll():
                self.reply({"id": number, "event": True}, json.dumps(event, separators=(",", ":")).encode() + b"\n")
            over = watch.closed or (end is not None and time.monotonic() >= end)
            if over:
                self.reply({"id": number, "end": True})
            return over

        if not poll():
            self.streams[number] = Stream(poll, watch.close)
        return None

    def op_cancel(self, header: Header, body: bytes) -> None:
        """The front's client went away: its stream ends; its process stays, as with a real kubectl exec."""
        number = header["id"]
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.close()
            self._end_paced()
        exec_id = self.execs.pop(number, None)
        if exec_id is not None:
            process = self.engine.processes.get(exec_id)
            if process is not None and not process.done:
                self._input(header, "signal", {"exec": exec_id, "signal": 1})
        kept = [w for w in self.engine.waits if getattr(w, "owner", None) != number]
        if len(kept) < len(self.engine.waits):  # a run whose command was interrupted ends here, and so does its replay
            self.engine.waits = kept
            self.engine.mark()

    def op_exec(self, header: Header, body: bytes) -> None:
        """Run a command in a pod or on a node; the clock runs until it ends."""
        self._start(header, "exec", {k: header.get(k) for k in ("namespace", "target", "container", "argv", "tty", "stdin")})

    def op_forward(self, header: Header, body: bytes) -> None:
        """A connection to a port of a pod; answered like an exec whose input stays open."""
        self._start({**header, "stdin": True}, "forward", {k: header[k] for k in ("namespace", "target", "port")})

    def _start(self, header: Header, kind: str, data: Header) -> None:
        """A process begins by an input of this kind; its output, and how it ended, go to who asked."""
        number = header["id"]
        self.engine.outputs[self.engine.seq + 1] = lambda stream, out: self.reply({"id": number, "stream": stream}, out)
        try:
            process = self._input(header, kind, data)
        except KubenetError:
            self.engine.outputs.pop(self.engine.seq + 1, None)
            raise
        exec_id = self.engine.seq
        self.execs[number] = exec_id
        self.reply({"id": number, "started": exec_id})
        deadline = self.cluster.loop.now + header["timeout_ns"] if header.get("timeout_ns") else FOREVER
        process.on_exit.append(lambda _: self.cluster.loop.stop())

        def finish(ok: bool) -> None:
            self.execs.pop(number, None)
            self.engine.outputs.pop(exec_id, None)
            self.engine.mark(header.get("group", ""))
            if ok:
                self.reply({"id": number, "exit": process.exit_code, "now": self.cluster.loop.now})
            else:
                self.reply({"id": number, "error": error_json(self.cluster.stuck_error(process))})

        wait = Wait(deadline, lambda: process.done, finish, TYPING_STEP if header.get("stdin") else 0)
        wait.owner = number  # type: ignore[attr-defined]
        wait.idle = Idle(process.process, bool(header.get("stdin")))  # type: ignore[attr-defined]
        self.engine.waits.append(wait)

    def _exec_input(self, header: Header, kind: str, more: dict[str, Any]) -> None:
        exec_id = self.execs.get(header["id"])
        if exec_id is not None:
            group = str(exec_id)
            self.engine.groups.setdefault(group, self._group_of(exec_id))
            self.engine.put(kind, {"exec": exec_id, **more}, group)

    def _group_of(self, seq: int) -> int:
        for entry in self.engine.journal.inputs(seq - 1, seq):
            return entry.group
        return seq

    def op_stdin(self, header: Header, body: bytes) -> None:
        """Bytes for the standard input of an exec."""
        self._exec_input(header, "stdin", {"bytes": base64.b64encode(body).decode()})

    def op_eof(self, header: Header, body: bytes) -> None:
        """The end of an exec's standard input."""
        self._exec_input(header, "eof", {})

    def op_signal(self, header: Header, body: bytes) -> None:
        """A signal for an exec's process: Ctrl-C."""
        self._exec_input(header, "signal", {"signal": int(header["signal"])})

    def op_resize(self, header: Header, body: bytes) -> None:
        """The terminal's size; nothing here draws, so it is only accepted."""

    def op_pod_stream(self, header: Header, body: bytes) -> None:
        """May a client over REST open this stream to a pod? 200 and what to ask for then, or the refusal as it goes to the client."""
        number, kind = header["id"], "application/json"
        try:
            request = prepare(self.cluster, header["verb"], header["namespace"], header["pod"], header.get("query", {}))
        except ApiError as error:
            code, text = error.code, json.dumps(error.status()).encode()
        except KubeletError as error:
            code, kind, text = error.code, "text/plain; charset=utf-8", f"{error.what}\n".encode()
        else:
            return self.reply({"id": number, "code": 200, "request": request})
        return self.reply({"id": number, "code": code, "headers": [["Content-Type", kind]]}, text)

    def op_logs(self, header: Header, body: bytes) -> None:
        """A container's log, and with follow what comes."""
        number = header["id"]
        source = self.cluster.logs(
            header["target"], namespace=header.get("namespace", "default"), container=header.get("container", ""),
            previous=bool(header.get("previous")), tail=header.get("tail"), timestamps=bool(header.get("timestamps")),
            since_ns=header.get("since_ns"),
        )

        def poll() -> bool:
            data = source.poll()
            if data:
                self.reply({"id": number, "data": True}, data)
            if not header.get("follow") or source.ended:
                self.reply({"id": number, "end": True})
                return True
            return False

        if not poll():
            self.streams[number] = Stream(poll, lambda: None)

    def wait(self, header: Header, deadline: int, done: Callable[[], bool], answer: Callable[[bool], Header],
             every: int = 0, exact: bool = False) -> None:
        """Time passes until done(), or `deadline`; then the position is marked and answer() goes out. See Wait."""
        def finish(ok: bool) -> None:
            self.engine.mark(header.get("group", ""))
            try:
                self.reply({"id": header["id"], **answer(ok)})
            except KubenetError as error:
                self.reply({"id": header["id"], "error": error_json(error)})

        wait = Wait(deadline, done, finish, every, exact)
        wait.owner = header["id"]  # type: ignore[attr-defined]
        self.engine.waits.append(wait)

    def op_run(self, header: Header, body: bytes) -> None:
        """Let virtual time pass."""
        loop = self.cluster.loop
        deadline = loop.now + int(header["ns"])
        self.join(header)
        self.wait(header, deadline, lambda: loop.now >= deadline, lambda ok: {"now": loop.now, "step": loop.step})

    def join(self, header: Header) -> None:
        """A command that only lets time pass begins its group with a mark, so that undo finds its beginning."""
        group = header.get("group", "")
        if group and group not in self.engine.groups:
            self.engine.put("mark", {}, group, header.get("cmd", ""))

    def op_settle(self, header: Header, body: bytes) -> None:
        """Let time pass until everything that was applied runs, or `max_ns`."""
        cluster = self.cluster
        deadline = cluster.loop.now + int(header.get("max_ns", 60 * SEC))
        self.join(header)
        self.wait(header, deadline, cluster.settled,
                   lambda ok: {"ok": ok, "now": cluster.loop.now, "waiting": [*cluster.unsettled(), *blocked(cluster)]}, SETTLE_STEP)

    def op_ping(self, header: Header, body: bytes) -> Header:
        """The engine is there."""
        return {}

    def op_status(self, header: Header, body: bytes) -> Header:
        """Where the session stands."""
        return {"session": self.session, "engine_pid": os.getpid(), **self.engine.status(), **self.cluster.summary()}

    def op_doctor(self, header: Header, body: bytes) -> Header:
        """What is wrong in the cluster."""
        return {"findings": [finding.json() for finding in doctor.findings(self.cluster)], "checks": list(doctor.CHECKS)}

    def op_allow(self, header: Header, body: bytes) -> Header:
        """From now on Python programs of pods may run, or may not."""
        self._input(header, "allow", {"pod_code": bool(header.get("pod_code"))})
        return {"pod_code": bool(header.get("pod_code"))}

    def op_fault(self, header: Header, body: bytes) -> Header:
        """List faults, begin one, or end some. What would be refused is refused before it is journaled."""
        faults, action = self.cluster.faults, header.get("action", "list")
        if action == "list":
            return {"faults": faults.json()}
        if action == "add":
            faults.plan(header)
        elif action == "rm":
            for number in header["ids"]:
                if faults.find(int(number)).end is None:
                    faults.remove(int(number))  # says why not
        elif action != "clear":
            raise UsageError(f"faults cannot be {action!r}")
        if action == "clear" and not faults.active:
            return {"faults": []}
        data: Header = {k: header[k] for k in ("action", "kind", "values", "options", "namespace", "ids") if k in header}
        return {"faults": self._input(header, "fault", data)}

    def op_history(self, header: Header, body: bytes) -> Header:
        """The commands of the session, oldest first."""
        seen: dict[int, Header] = {}
        for entry in self.engine.journal.inputs():
            if entry.kind != "mark" or entry.data.get("cmd"):
                seen.setdefault(entry.group, {"cmd": entry.data.get("cmd") or entry.kind, "time": entry.time, "step": entry.step})
        return {"commands": list(seen.values())}

    def op_trace(self, header: Header, body: bytes) -> None:
        """Send a probe and show what happened to its first packet; with `dry` in a copy of the state that is then thrown away."""
        if header.get("dry"):
            return self._trace_dry(header)
        data: Header = {k: header[k] for k in ("namespace", "src", "dst", "port", "proto") if k in header}
        probe = self._input(header, "probe", data)
        deadline = self.cluster.loop.now + int(header.get("max_ns", 60 * SEC))
        self.wait(header, deadline, lambda: probe.done,
                   lambda ok: {"trace": trace_query.probe_json(self.cluster, probe)})
        return None

    def _trace_dry(self, header: Header) -> None:
        """The probe runs in a fork: its packet is real there, and nothing of it is left here."""
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            self.reply = _mute  # type: ignore[method-assign]  # the commands under way belong to the parent
            self._answer_dry(header, theirs)
        theirs.close()
        answer = frames.receive(ours)
        ours.close()
        if answer is None:
            raise WrongMomentError("the copy ended without an answer", why="its last words are in the session's log")
        self.reply({"id": header["id"], **answer[0]})

    def _answer_dry(self, header: Header, answer: socket.socket) -> None:
        """In the copy: run the probe, tell, end."""
        try:
            target = f"{header['dst']}:{header['port']}"
            probe = self.cluster.trace_probe(header["src"], target, header.get("namespace", "default"), header.get("proto", "tcp"))
            frames.send(answer, {"trace": {**trace_query.probe_json(self.cluster, probe), "dry": True}})
        except KubenetError as error:
            frames.send(answer, {"error": error_json(error)})
        finally:
            os._exit(0)

    def op_trace_get(self, header: Header, body: bytes) -> Header:
        """Packets of the past: from the ring, else from a copy of the past in which they are armed."""
        if header.get("packet") is not None or header.get("reply") is not None:
            wanted = int(header["packet"] if header.get("packet") is not None else header["reply"])
            if header.get("reply") is not None:
                wanted = trace_query.reply_of(self.cluster, wanted)
            found = trace_query.packet_json(self.cluster, wanted)
            return {"traces": [found if found is not None else self._rerun(wanted)]}
        return {"traces": trace_query.search(self.cluster, last=header.get("last", False), target=header.get("target", ""),
                                             flow=header.get("flow"), namespace=header.get("namespace", "default"),
                                             limit=int(header.get("limit", 50)))}

    def _rerun(self, packet: int) -> Header:
        """The packet's stations, recorded now: the stretch in which it lived runs again in a copy, with it armed."""
        if not 0 < packet <= self.cluster.loop.ids:
            raise NotFoundError(f"no packet {packet} in this session", why=f"ids go from 1 to {self.cluster.loop.ids}",
                                try_="kubenet trace --last")
        last = self.engine.journal.last()
        order = {"packet": packet, "until_seq": last.seq if last else 0, "step": self.cluster.loop.step,
                 "now": self.cluster.loop.now}
        fitting = [c for c in self.engine.checkpoints if c.ids < packet]
        answer = checkpoint.query(fitting[-1], order) if fitting else self._rerun_from_start(order)
        if answer is None or "trace" not in answer[0]:
            raise WrongMomentError(f"packet {packet} could not be run again")
        found: Header = answer[0]["trace"]
        return found

    def _rerun_from_start(self, order: Header) -> frames.Frame | None:
        """As _rerun, without a checkpoint old enough: a fork replays the journal from its beginning."""
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            self.engine.restart()
            raise checkpoint.Grandchild(order, theirs)
        theirs.close()
        answer = frames.receive(ours)
        ours.close()
        return answer

    def op_topo(self, header: Header, body: bytes) -> Header:
        """The map."""
        return {"graph": self.cluster.topology_json()}

    def op_names(self, header: Header, body: bytes) -> Header:
        """Names for completion."""
        return {"names": self.cluster.names()}

    def op_pcap_start(self, header: Header, body: bytes) -> Header:
        """Start a capture; looking changes nothing."""
        name = header.get("name", "default")
        if name in self.pcaps:
            raise UsageError(f"a capture named {name!r} is already running", try_=f"kubenet pcap stop --name {name}")
        self.pcaps[name] = self.cluster.start_capture(header["target"], header.get("dev", ""),
                                                      namespace=header.get("namespace", "default"))
        return {"ok": True, "devices": self.pcaps[name].devices()}

    def op_pcap_list(self, header: Header, body: bytes) -> Header:
        """The captures that run."""
        return {"captures": [{"name": name, "devices": c.devices(), "packets": c.packets} for name, c in self.pcaps.items()]}

    def op_pcap_stop(self, header: Header, body: bytes) -> None:
        """End a capture and hand over its file."""
        name = header.get("name", "default")
        capture = self.pcaps.pop(name, None)
        if capture is None:
            raise NotFoundError(f"no capture named {name!r} is running", why=f"running: {', '.join(self.pcaps) or 'none'}",
                                try_="kubenet pcap start node-1")
        data = capture.stop()
        self.reply({"id": header["id"], "packets": capture.packets}, data)

    def op_pcap_replay(self, header: Header, body: bytes) -> None:
        """A capture file's frames are received by a device; the answer comes after the last. What cannot be is refused before it is
        journaled."""
        target, namespace, name = header["target"], header.get("namespace", "default"), header.get("dev") or "eth0"
        options = replay.Options(**header.get("options", {}))
        dev = replay.find_device(self.cluster.container(target, namespace), name)
        plan = replay.plan_frames(body, options, dev, header.get("file", "the file"))
        data: Header = {"target": target, "namespace": namespace, "dev": name, "frames": replay.to_journal(plan.frames),
                        "fix_checksums": options.fix_checksums}
        running = self._input(header, "frames", data)
        left_out = {"outgoing": plan.outgoing, "cut": plan.cut, "for_others": plan.for_others, "span_ns": plan.span}
        self.wait(header, FOREVER, lambda: running.done, lambda ok: {"replay": {**running.json(), **left_out}})

    def op_undo(self, header: Header, body: bytes) -> Header | None:
        """Go back before the last commands."""
        if self.engine.waits:
            raise WrongMomentError("a command is still running", try_="wait for it, or press Ctrl-C there")
        first, texts = self.engine.rewind_point(int(header.get("n", 1)))
        return self.rewind({"id": header["id"], "first": first.seq, "step": first.step, "time": first.time, "undone": texts})

    def rewind(self, order: Header) -> Header:
        """Inputs from `first` on are gone and the state is an earlier one, at (step, time), or at `time` after all its events if no
        step is given: a checkpoint becomes the engine, or the journal is replayed."""
        for number, stream in self.streams.items():
            stream.close()
            self.reply({"id": number, "end": True, "rewound": True})
        self.streams.clear()
        found = self.engine.nearest_checkpoint(int(order["first"]) - 1, int(order["time"]))
        if found is None:
            self.engine.journal.truncate(int(order["first"]))
            self.engine.restart()
            return self.rewound(order)
        self.engine.journal.close()
        checkpoint.promote(found, order, self.front)
        os._exit(0)

    def rewound(self, order: Header) -> Header:
        """The last part of rewind(), in the process that goes on."""
        self.engine.replay(until=int(order["first"]) - 1)
        if order.get("step") is not None:
            self.engine.advance(int(order["step"]), int(order["time"]))
        else:
            self.engine.run_to(int(order["time"]))
        self.engine.mark()
        return {"now": self.cluster.loop.now, "step": self.cluster.loop.step, "undone": order["undone"],
                "cut": order.get("cut", "")}

    def op_save(self, header: Header, body: bytes) -> Header:
        """The present position is in the journal, so that a copy of it leads exactly here."""
        if self.engine.waits:
            raise WrongMomentError("a command is still running", try_="wait for it, or press Ctrl-C there")
        self.engine.mark()
        loop = self.cluster.loop
        return {"now": loop.now, "step": loop.step, "digest": self.cluster.digest()}

    def op_shutdown(self, header: Header, body: bytes) -> Header:
        """The engine ends after this answer; the journal stays, up to the event that was the last, also of a wait that is cut short."""
        self.engine.mark()
        self.running = False
        return {"ok": True}


class Idle:
    """Does a command only wait for what others may do? Then the clock keeps to the wall clock instead of rushing on.

    True while it waits for its standard input, if somebody may still type; or once it made no system call for PATIENCE and has no
    timer of its own, as a server does.
    """

    PATIENCE = 1000 * SEC  # longer than TCP retransmits data to a silent peer (924.6 s)

    def __init__(self, process: Any, interactive: bool) -> None:
        self.process = process
        self.interactive = interactive
        self.calls = -1
        self.since = 0

    def __call__(self) -> bool:
        family = [self.process]
        for member in family:
            family.extend(member.children)
        calls = sum(member.sys.calls for member in family)
        now = self.process.container.loop.now
        if calls != self.calls:
            self.calls, self.since = calls, now
        if self.interactive and self._reads_stdin():
            return True
        if now - self.since < self.PATIENCE:
            return False
        tasks = [task for member in family if not member.done for task in (member.task, *member.threads) if task is not None]
        return not any(task.until for task in tasks)

    def _reads_stdin(self) -> bool:
        source = self.process.stdin
        if source is None:
            return False
        queue = getattr(source, "peer", source).wait
        return bool(queue.has_waiters)


def _mute(header: Header, body: bytes = b"") -> None:
    """A reply that nobody gets."""


def _never() -> bool:
    return False


def error_json(error: KubenetError) -> Header:
    """An error as it travels to the command line."""
    return {"what": error.what, "why": error.why, "try": error.try_, "at": error.at, "exit": error.exit_code,
            "kind": type(error).__name__}
