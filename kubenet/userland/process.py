"""Processes: a task with descriptors, an environment, a working directory and signals, inside a container.

A native program is a function main(proc, argv) -> exit code; it runs in a task of its own (proc.task) and makes calls through
proc.sys. A Python program runs the same way, inside a world (world.py), and may start threads: tasks more of the same process.

    code 0..255          the program ended: returned, proc.exit(), an uncaught exception (1, with the traceback on stderr)
    code 128 + n         killed by signal n

As in Linux, pid 1 of a container ignores signals it has no handler for, SIGKILL from outside excepted: a `sleep` that is a
container's first process takes the whole grace period to go away. Stopped processes (SIGSTOP) are left out: simplified.

Sources: signal(7), pid_namespaces(7), exit(3), Linux kernel/signal.c (SIGNAL_UNKILLABLE).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kubenet.kernel.socket.fdtable import FdTable
from kubenet.sim.rng import Stream
from kubenet.sim.task import Killed, Task, current_or_none, spawn
from kubenet.sim.wait import WaitQueue
from kubenet.userland.environ import Layers
from kubenet.userland.syscalls import SignalInterrupt, Sys

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace
    from kubenet.userland.container import Container
    from kubenet.userland.vfs import Vfs

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD = 1, 2, 3, 9, 10, 13, 14, 15, 17
SIGNAL_NAMES = {
    1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
    12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP", 21: "TTIN",
    22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}
SIGNAL_NUMBERS = {name: number for number, name in SIGNAL_NAMES.items()}
_IGNORED_BY_DEFAULT = (17, 18, 19, 20, 21, 22, 23, 28)

IGNORE = "ignore"

Main = Callable[["Process", list[str]], "int | None"]


class Exit(BaseException):
    """proc.exit(code): unwinds the program's stack to its end."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Process:
    """One program in execution."""

    __slots__ = (
        "pid", "ppid", "container", "net", "fds", "_env", "cwd", "argv", "main", "task", "threads", "exit_code", "done", "dead",
        "exit_wait", "child_wait", "signal_wait", "children", "handlers", "pending", "signals_seen", "sys", "umask", "uid",
        "signaled", "world", "on_exit", "started", "label", "vfs", "output", "stdin", "extra", "_random",
    )

    def __init__(self, container: Container, pid: int, ppid: int, argv: list[str], main: Main, fds: FdTable,
                 env: Mapping[str, str], cwd: str) -> None:
        loop = container.loop
        self.pid = pid
        self.ppid = ppid
        self.container = container
        self.net: NetNamespace = container.net
        self.vfs: Vfs = container.vfs
        self.fds = fds
        self._env: Mapping[str, str] = env
        self.cwd = cwd
        self.argv = argv
        self.main = main
        self.label = f"{container.name}/{pid}"
        self.task: Task | None = None
        self.threads: list[Task] = []
        self.exit_code: int = -1
        self.done: bool = False  # a zombie, or gone
        self.signaled: int = 0  # the signal it died of
        self.dead: bool = False  # being killed: no system call has an effect any more
        self.exit_wait = WaitQueue(loop, f"exit of {self.label}")
        self.child_wait = WaitQueue(loop, f"children of {self.label}")
        self.signal_wait = WaitQueue(loop, "signal")
        self.children: list[Process] = []
        self.handlers: dict[int, Callable[[int], Any] | str] = {}
        self.pending: list[int] = []
        self.signals_seen: int = 0
        self.umask = 0o022
        self.uid = 0
        self.world: Any = None  # the Python world, once there is one
        self.on_exit: list[Callable[[Process], None]] = []
        self.started: int = loop.now
        self.output: list[tuple[int, bytes]] = []  # an exec's collected (stream, data)
        self.stdin: Any = None  # an exec's input pipe
        self.extra: dict[str, Any] = {}
        self._random: Stream | None = None
        self.sys = Sys(self)

    def __repr__(self) -> str:
        return f"<Process {self.label} {self.argv[0] if self.argv else ''}>"

    @property
    def env(self) -> dict[str, str]:
        """The environment, a dict of this process's own from the first look on."""
        found = self._env
        if not isinstance(found, dict):
            found = self._env = found.merged() if isinstance(found, Layers) else dict(found)
        return found

    @env.setter
    def env(self, env: dict[str, str]) -> None:
        self._env = env

    # ---- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The program begins, a wake-up's cost from now."""
        self.task = spawn(self.container.loop, self._run, name=self.label, ctx=self)
        self.task.on_exit = self._ended
        if self.container.frozen:
            self.task.freeze()

    def _run(self) -> int:
        try:
            return self.main(self, self.argv) or 0
        except Exit as done:
            return done.code
        except SignalInterrupt:
            return 1
        except Exception:
            self.err(self.traceback())
            return 1

    def traceback(self) -> str:
        """The text of the exception being handled, without the emulator's own frames below a program's."""
        return traceback.format_exc()

    def _ended(self, task: Task) -> None:
        """The main task is over: by return, exit or kill."""
        code = task.result if isinstance(task.result, int) else 1
        if self.dead:
            code = self.exit_code
        elif task.error is not None:
            self.dead = True
        self.finish(code & 0xFF)

    def finish(self, code: int) -> None:
        """The process is a zombie: descriptors closed, threads gone, parent told. Linux: do_exit()."""
        if self.done:
            return
        self.exit_code = code
        self.done = True
        self.dead = True
        for thread in self.threads:
            thread.kill()
        self.fds.close_all()
        self.world = None
        self.container.process_ended(self)
        for callback in self.on_exit:
            callback(self)
        self.exit_wait.wake()

    def exit(self, code: int) -> None:
        """exit(3), from native programs."""
        raise Exit(code)

    def thread(self, fn: Callable[..., Any], *args: Any, name: str = "") -> Task:
        """One more task of this process, which ends with it."""
        number = len(self.threads) + 1
        task = spawn(self.container.loop, self._thread_main, fn, args, name=name or f"{self.label}.{number}", ctx=self)
        self.threads.append(task)
        if self.container.frozen:
            task.freeze()
        return task

    def _thread_main(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            fn(*args)
        except Exit as done:
            self.finish(done.code)
        except (Killed, SignalInterrupt):
            raise
        except Exception:
            self.err(self.traceback())

    # ---- signals ----------------------------------------------------------------------------------------------------

    def kill(self, number: int, outside: bool = False) -> None:
        """A signal arrives. `outside`: from the runtime or the node, whose SIGKILL also ends pid 1."""
        if self.done or number == 0:
            return
        handler = self.handlers.get(number)
        if number != SIGKILL and handler is not None:
            if handler != IGNORE:
                self._queue(number)
            return
        if number in _IGNORED_BY_DEFAULT:
            return
        if self.pid == 1 and self.container.pid1_protected and not (number == SIGKILL and outside):
            return
        self.terminate(number)

    def _queue(self, number: int) -> None:
        self.pending.append(number)
        self.signals_seen += 1
        self.signal_wait.wake()
        task = self.task
        if task is not None and task is not current_or_none() and task.blocked_on != "start":
            task.interrupt(SignalInterrupt())

    def terminate(self, number: int) -> None:
        """The process dies of signal `number`."""
        if self.dead:
            return
        self.dead = True
        self.signaled = number
        self.exit_code = 128 + number
        for task in [self.task, *self.threads]:
            if task is not None and task is not current_or_none():
                task.kill()

    # ---- small helpers for native programs --------------------------------------------------------------------------

    @property
    def random(self) -> Stream:
        """This process's random sequence (getrandom(2))."""
        if self._random is None:
            self._random = self.container.host.stream(self.container.name, "process", self.pid)
        return self._random

    def urandom(self, size: int) -> bytes:
        """getrandom(2): a function of the seed, the container and the pid."""
        return self.random.bytes(size)

    def out(self, text: str | bytes) -> None:
        """Write to standard output."""
        self.sys.write_all(1, text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)

    def err(self, text: str | bytes) -> None:
        """Write to standard error; an error there is nobody's business."""
        if self.dead:
            return
        try:
            self.sys.write_all(2, text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
        except OSError:
            pass

    def read_stdin(self) -> bytes:
        """Everything up to the end of standard input."""
        return self.sys.read_all(0)

    def read_file(self, path: str) -> bytes:
        """A whole file. Raises OSError."""
        fd = self.sys.open(path)
        try:
            return self.sys.read_all(fd)
        finally:
            self.sys.close(fd)

    def stdout_bytes(self) -> bytes:
        """What an exec wrote to standard output so far."""
        return b"".join(data for stream, data in self.output if stream == 1)

    def stderr_bytes(self) -> bytes:
        """What an exec wrote to standard error so far."""
        return b"".join(data for stream, data in self.output if stream == 2)
