"""The engine: a cluster, the journal of what was put into it, and the rules by which time passes.

    engine.put(kind, data, group)    journal an input at the present position, then apply it
    engine.work(events)              let time pass, up to `events` events
    engine.replay(...)               rebuild the state from the journal
    engine.rewind_point(...)         where undo must go back to

Time stands still while nobody waits. A wait (run, settle, exec) is over at a deterministic event: a process's exit, a time, or
a look taken at fixed intervals of virtual time; then a mark with the position is journaled, so a replay ends in the
same place. Reads are never inputs. Everything here is single-threaded and free of asyncio, so that the process can fork.

The same class serves the engine process (main.py) and tests; `kubenet run` uses the Cluster without it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.cluster.replay import from_journal
from kubenet.cluster.store import HISTORY
from kubenet.engine.checkpoint import Checkpoint, take, thin
from kubenet.engine.journal import Input, Journal
from kubenet.errors import KubenetError, WrongMomentError
from kubenet.sim.clock import BUDGET, IDLE, UNTIL
from kubenet.units import SEC, format_ns
from kubenet.userland import watchdog

LEAP = 100 * SEC  # virtual time that passes at most before somebody looks
CHECK = 256  # events between two looks at who else wants something


class Wait:
    """Somebody waits: until `done()` holds or virtual time `deadline`.

    `every`: ns of virtual time between two looks at done(); 0 for what calls loop.stop() itself, as the end of a process does.
    `exact`: done() is asked after every event.
    """

    def __init__(self, deadline: int, done: Callable[[], bool], finish: Callable[[bool], None], every: int = 0,
                 exact: bool = False) -> None:
        self.deadline = deadline
        self.done = done
        self.finish = finish
        self.every = every
        self.exact = exact


def _differs(why: str) -> WrongMomentError:
    return WrongMomentError("the replay differs from the recording", why=why, try_="kubenet reset   (forget this session)")


class Engine:
    """One session in memory."""

    def __init__(self, journal: Journal, build: Callable[[dict[str, Any]], Cluster]) -> None:
        self.journal = journal
        self.build = build
        self.settings: dict[str, Any] = {}
        self.cluster: Cluster = None  # type: ignore[assignment]  # set by start()
        self.seq = 0
        self.groups: dict[str, int] = {}  # a command's name for its group -> group number, of the newest commands
        self.processes: dict[int, Any] = {}  # seq of the exec input -> Process
        self.outputs: dict[int, Callable[[int, bytes], None]] = {}
        self.waits: list[Wait] = []
        self.checkpoints: list[Checkpoint] = []
        self.private_fds: list[Any] = []  # sockets a checkpoint must not keep open
        self.can_fork = True
        self.replaying = False

    # ---- life

    def start(self, settings: dict[str, Any], progress: Callable[[int, int], None] | None = None,
              anyway: bool = False) -> None:
        """The session's state is there: booted anew, or rebuilt from the journal. Raises WrongMomentError on a mismatch."""
        self.journal.open()
        if self.journal.header():
            if not anyway:
                self.journal.check_header()
            settings = self.journal.settings()
        else:
            self.journal.start(settings)
        self.settings = settings
        self.cluster = self.build(settings)
        self.replay(progress=progress, verify=anyway)

    def restart(self) -> None:
        """Forget the state and begin at time zero; the caller replays what it wants."""
        for checkpoint in self.checkpoints:
            checkpoint.end()
        self.checkpoints.clear()
        self.processes.clear()
        self.groups.clear()
        self.seq = 0
        self.cluster = self.build(self.settings)

    def replay(self, until: int = 1 << 62, progress: Callable[[int, int], None] | None = None, verify: bool = False) -> None:
        """Apply the journal's inputs after `self.seq`, each at its position. With verify the stored digests must agree."""
        last = self.journal.last()
        total = last.seq if last else 0
        for entry in self.journal.inputs(self.seq, until, "runaway"):
            watchdog.plan(entry.data["process"], entry.data["started"], entry.data["calls"], entry.data["where"])
        self.replaying = True
        try:
            for entry in self.journal.inputs(self.seq, until):
                self.advance(entry.step, entry.time)
                if verify and entry.digest and entry.digest != self.cluster.digest():
                    raise WrongMomentError(
                        f"the replay differs from the recording at input {entry.seq} ({entry.kind}), {format_ns(entry.time)}",
                        why=f"digest {self.cluster.digest()} instead of {entry.digest}",
                        try_="kubenet reset   (forget this session)",
                    )
                self.seq = entry.seq
                self._apply_quietly(entry)
                if progress is not None:
                    progress(entry.seq, total)
        finally:
            self.replaying = False

    def _apply_quietly(self, entry: Input) -> None:
        """What was refused when it was new is refused again, and was answered then."""
        try:
            self.apply(entry)
        except (KubenetError, LookupError, ValueError):
            pass

    def advance(self, step: int, time: int) -> None:
        """Let exactly the events happen that lead to (step, time). WrongMomentError if they do not."""
        loop = self.cluster.loop
        missing = step - loop.step
        assert missing >= 0, f"the journal goes back: step {step} after {loop.step}"
        while loop.step < step:
            if loop.run(events=step - loop.step) == IDLE and loop.step < step:
                raise _differs(f"nothing happens after step {loop.step}; the recording reached {step}")
        if time > loop.now:
            loop.run(until=time)
            if loop.step != step:
                raise _differs(f"step {loop.step} at {format_ns(loop.now)}; the recording had reached {step}")

    def run_to(self, time: int) -> None:
        """All events up to `time` happen, whoever calls loop.stop()."""
        loop = self.cluster.loop
        while loop.now < time or loop.next_time() <= time:
            loop.run(until=time)

    # ---- inputs

    def put(self, kind: str, data: dict[str, Any], group: str = "", cmd: str = "") -> Any:
        """Journal an input, apply it, return what it answers. Raises KubenetError if it cannot be journaled or applied."""
        loop = self.cluster.loop
        new_group = group not in self.groups or not group
        if new_group and kind != "mark":
            self.checkpoint()
        seq = self.seq + 1
        number = seq if new_group else self.groups[group]
        if cmd:
            data = {**data, "cmd": cmd}
        entry = Input(seq, number, loop.step, loop.now, kind, data, self.cluster.digest())
        self.journal.append(entry)
        self.seq = seq
        if group:
            self.groups[group] = number
            if len(self.groups) > 1000:
                del self.groups[next(iter(self.groups))]
        return self.apply(entry)

    def apply(self, entry: Input) -> Any:
        """Put one input into the cluster. The only place that knows the kinds."""
        data = entry.data
        match entry.kind:
            case "api":
                body = base64.b64decode(data["body"])
                return self.cluster.api.request(data["method"], data["path"], data["query"], data["headers"], body)
            case "exec":
                return self._exec(entry.seq, data)
            case "forward":
                return self._forward(entry.seq, data)
            case "stdin":
                return self._process(data).feed_stdin(base64.b64decode(data["bytes"]))
            case "eof":
                return self._process(data).close_stdin()
            case "signal":
                return self._process(data).kill(int(data["signal"]))
            case "probe":
                return self.cluster.probe(data)
            case "frames":
                return self.cluster.replay_frames(data["target"], data["dev"], from_journal(data["frames"]),
                                                  data.get("namespace", "default"), bool(data.get("fix_checksums")))
            case "mark":
                return None
            case "fault":
                return self._fault(data)
            case "allow":
                return self.cluster.allow_pod_code(bool(data["pod_code"]))
            case "runaway":
                return None  # planned before the replay began
        raise AssertionError(f"unknown input {entry.kind}")

    def _fault(self, data: dict[str, Any]) -> Any:
        faults = self.cluster.faults
        match data["action"]:
            case "add":
                return [faults.add(data)]
            case "rm":
                return [faults.remove(int(number)) for number in data["ids"]]
            case "clear":
                return faults.clear()
        raise AssertionError(f"unknown action {data['action']}")

    def _exec(self, seq: int, data: dict[str, Any]) -> Any:
        output = self.outputs.get(seq)
        process = self.cluster.start_exec(
            data["target"], data["argv"], namespace=data.get("namespace", "default"), container=data.get("container", ""),
            tty=bool(data.get("tty")), stdin_open=bool(data.get("stdin")), on_output=output,
        )
        self.processes[seq] = process
        return process

    def _forward(self, seq: int, data: dict[str, Any]) -> Any:
        process = self.cluster.start_forward(data["target"], int(data["port"]), data.get("namespace", "default"), self.outputs.get(seq))
        self.processes[seq] = process
        return process

    def _process(self, data: dict[str, Any]) -> Any:
        found = self.processes.get(int(data["exec"]))
        if found is None:
            raise WrongMomentError("that process is not there any more")
        return found

    def mark(self, group: str = "") -> None:
        """The present position is part of the session, although nothing entered."""
        last = self.journal.last()
        loop = self.cluster.loop
        if last is None or (last.step, last.time) != (loop.step, loop.now):
            self.put("mark", {}, group)

    # ---- time

    def work(self, events: int = CHECK) -> None:
        """Up to `events` events happen, on behalf of those who wait; satisfied waits are finished."""
        if not self.waits:
            return
        self._finish_waits()
        if not self.waits or not events:
            return
        now = self.cluster.loop.now
        deadline = min(min(wait.deadline, now + (wait.every or LEAP)) for wait in self.waits)
        state = self._run(deadline, events)
        if watchdog.kills:
            self.note_runaways()
        self._finish_waits(timed_out=state in (UNTIL, IDLE))

    def _run(self, deadline: int, events: int) -> int:
        """As loop.run; event by event while somebody wants to look after each."""
        loop = self.cluster.loop
        exact = [wait for wait in self.waits if wait.exact]
        if not exact:
            return loop.run(until=deadline, events=events)
        for _ in range(events):
            state = loop.run(until=deadline, events=1)
            if state != BUDGET or any(wait.done() for wait in exact):
                return state
        return BUDGET

    def _finish_waits(self, timed_out: bool = False) -> None:
        now = self.cluster.loop.now
        for wait in list(self.waits):
            ok = wait.done()
            if ok or (timed_out and now >= wait.deadline) or (timed_out and self.cluster.loop.pending() == 0):
                self.waits.remove(wait)
                wait.finish(ok)

    def note_runaways(self) -> None:
        """Programs that the watchdog stopped become inputs: a replay stops them at the same call."""
        while watchdog.kills:
            label, started, calls, where = watchdog.kills.pop(0)
            self.put("runaway", {"process": label, "started": started, "calls": calls, "where": where}, "watchdog")

    def run_paced(self, until: int, events: int = CHECK) -> None:
        """The clock follows a wall clock: events up to `until` happen. Order is as ever."""
        self.cluster.loop.run(until=until, events=events)

    # ---- checkpoints

    def checkpoint(self) -> None:
        """Fork a copy of this state, if it moved since the last one."""
        loop = self.cluster.loop
        if not self.can_fork or (self.checkpoints and self.checkpoints[-1].step == loop.step
                                 and self.checkpoints[-1].seq == self.seq):
            return
        self.journal.close()  # no connection crosses a fork
        try:
            self.checkpoints.append(take(self.seq, loop.step, loop.now, loop.ids, self.private_fds))
        except OSError:
            self.can_fork = False  # no memory or no processes left: replay does the same, slower
        thin(self.checkpoints)

    def rewind_point(self, commands: int) -> tuple[Input, list[str]]:
        """The first input of the last `commands` commands, and their texts. Raises WrongMomentError if there are fewer."""
        texts: list[str] = []
        entry = self.journal.last()
        first: Input | None = None
        for _ in range(commands):
            while entry is not None and entry.kind == "mark" and entry.group == entry.seq:
                entry = self._before(entry.seq)  # a mark of its own belongs to nobody
            if entry is None:
                raise WrongMomentError("nothing to undo", why="the session is at its beginning", try_="kubenet status")
            first = self.journal.group_start(entry.group)
            assert first is not None
            texts.append(str(first.data.get("cmd") or first.kind))
            entry = self._before(first.seq)
        assert first is not None
        return first, texts

    def _before(self, seq: int) -> Input | None:
        found = None
        for entry in self.journal.inputs(seq - 2, seq - 1):
            found = entry
        return found

    def moment(self, time: int) -> tuple[int, list[str], str]:
        """What a way back to a time cuts off: (the first input after it, the commands that begin later, newest first, and the text of
        one that lasts beyond it or "")."""
        first, cut = self.seq + 1, ""
        gone: dict[int, str] = {}  # group -> its command
        waiting = 0  # the first of the marks at `time` with which commands begin that only let time pass
        for entry in self.journal.inputs():
            if entry.time <= time:
                begins = entry.time == time and entry.kind == "mark" and "cmd" in entry.data
                waiting = (waiting or entry.seq) if begins else 0
                continue
            first = min(first, waiting or entry.seq)
            start = self.journal.group_start(entry.group)
            assert start is not None
            cmd = str(start.data.get("cmd") or ("" if start.kind == "mark" else start.kind))
            if start.seq < first:
                cut = cmd
            elif cmd:
                gone[entry.group] = cmd
        return first, list(gone.values())[::-1], cut

    def nearest_checkpoint(self, seq: int, time: int = 1 << 62) -> Checkpoint | None:
        """The newest checkpoint whose state has no input after `seq` and is not later than `time`."""
        fitting = [c for c in self.checkpoints if c.seq <= seq and c.time <= time]
        return fitting[-1] if fitting else None

    def status(self) -> dict[str, Any]:
        """What `kubenet status` shows of the engine."""
        loop = self.cluster.loop
        return {
            "now": loop.now,
            "step": loop.step,
            "seed": self.settings.get("seed"),
            "epoch": self.settings.get("epoch"),
            "digest": self.cluster.digest(),
            "inputs": self.seq,
            "journal_bytes": self.journal.size(),
            "checkpoints": [{"input": c.seq, "time": c.time, "step": c.step} for c in self.checkpoints],
            "mode": "fast" if self.waits else "frozen",
            "bounds": {"traced_packets": loop.tracer.keep, "watch_history": HISTORY,
                       "checkpoints": 16},
        }


def seconds(ns: int) -> str:
    """For people: 2.5s."""
    return f"{ns / SEC:g}s"
