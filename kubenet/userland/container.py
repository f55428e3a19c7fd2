"""A container: an image's files and program, run in a network namespace. Nodes are containers too (image "node").

    c = Container(host, net, "web-0", "nginx:1.27", mounts={"/usr/share/nginx/html": volume({...})}, hostname="web-0")
    c.on_exit = fn                       fn(container, code) when pid 1 is gone
    c.start()                            pid 1 runs the entrypoint; its output goes to c.log: (time, stream, bytes)
    p = c.exec(["ss", "-ltn"])           a process beside it; p.output collects what it writes, p.exit_wait tells its end
    c.stop(30 * SEC)                     SIGTERM (or the image's signal), SIGKILL when the grace period is over

Raises LookupError for an image nobody registered (the kubelet makes ErrImagePull of it), and ExecError, with the exit code and
words of runc, for a program that is not there.

Sources: the OCI runtime and image specifications; Docker's rules for ENTRYPOINT and CMD; kubelet's for command and args.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kubenet.kernel.host import Host
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.socket.fdtable import FdTable
from kubenet.kernel.socket.file import POLLOUT, File, PipeWriter, make_pipe, oserror
from kubenet.units import SEC
from kubenet.userland.environ import Layers
from kubenet.userland.images import Image, find_image
from kubenet.userland.process import SIGCHLD, SIGKILL, SIGNAL_NUMBERS, Main, Process
from kubenet.userland.tools import load_tool
from kubenet.userland.vfs import Device, Dir, LateDir, Node, OpenFile, Program, RegFile, Symlink, Vfs

if TYPE_CHECKING:
    from kubenet.userland.tty import Terminal

EPOCH = 1_767_225_600 * SEC  # 2026-01-01T00:00:00Z, unless host.extra["epoch"] says otherwise
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOG_LIMIT = 4 << 20  # bytes kept of a container's log

OnOutput = Callable[[int, bytes], None]


class ExecError(Exception):
    """The program could not be started: 127 not found, 126 not executable."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class OutputFile(File):
    """Where a container's or an exec's output ends: a function that takes (stream, data)."""

    __slots__ = ("sink", "stream")

    def __init__(self, loop: Any, sink: OnOutput, stream: int) -> None:
        super().__init__(loop, "output")
        self.sink = sink
        self.stream = stream

    def write(self, data: bytes) -> int:
        self.sink(self.stream, bytes(data))
        return len(data)

    def poll(self) -> int:
        return POLLOUT


class Container:
    """One container: file system, processes, log."""

    def __init__(
        self,
        host: Host,
        net: NetNamespace,
        name: str,
        image: str | Image,
        *,
        command: list[str] | None = None,
        args: list[str] | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str = "",
        mounts: Mapping[str, Node] | None = None,
        hostname: str = "",
        resolv_conf: str = "",
        hosts: str = "",
        log: list[tuple[int, int, bytes]] | None = None,
    ) -> None:
        self.host = host
        self.net = net
        self.loop = host.loop
        self.name = name
        self.image = find_image(image) if isinstance(image, str) else image
        self.hostname = hostname or name
        self.command = command
        self.args = args
        self.env = Layers({"PATH": PATH, "HOSTNAME": self.hostname, "HOME": "/root"}, self.image.env, env or {})
        self.workdir = workdir or self.image.workdir
        self.mounts = dict(mounts or {})
        self.resolv_conf = resolv_conf
        self.hosts_file = hosts
        self.log: list[tuple[int, int, bytes]] = log if log is not None else []
        self.log_bytes = 0
        self.on_log: list[Callable[[int, int, bytes], None]] = []
        self.processes: dict[int, Process] = {}
        self.main: Process | None = None
        self.on_exit: Callable[[Container, int], None] | None = None
        self.pid1_protected = True
        self.stopping = False
        self.freezers = 0  # how many want its programs to stand still
        self._next_pid = 1
        self._vfs: Vfs | None = None
        host.extra.setdefault("containers", {})[name] = self

    def __repr__(self) -> str:
        return f"<Container {self.name} {self.image.name}>"

    # ---- file system ------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Real time, in ns, of virtual time zero."""
        epoch: int = self.host.extra.get("epoch", EPOCH)
        return epoch

    @property
    def vfs(self) -> Vfs:
        """The container's files, built at the first look."""
        if self._vfs is None:
            self._vfs = self._build_vfs()
        return self._vfs

    def _build_vfs(self) -> Vfs:
        from kubenet.userland import procfs

        image = self.image.root()
        late: dict[str, Callable[[], Node]] = {
            "etc": partial(self._etc, image.peek("etc"), self.epoch + self.loop.now), "dev": _dev,
            "proc": partial(procfs.proc_root, self), "sys": partial(procfs.sys_root, self)}
        vfs = Vfs(LateDir(late, lower=image), lambda: self.epoch + self.loop.now)
        for path in ("/tmp", "/root", "/run", "/var/log", self.workdir):
            if not vfs.exists(path):
                vfs.mount(path, Dir())
        for path, node in self.mounts.items():
            vfs.mount(path, node)
        return vfs

    def _etc(self, image: Node | None, made: int) -> Dir:
        """The image's /etc with the three files that the runtime writes when the container is made."""
        etc = Dir(lower=image if isinstance(image, Dir) else None)
        files = {"hostname": self.hostname + "\n", "hosts": self.hosts_file or default_hosts(self.hostname),
                 "resolv.conf": self.resolv_conf}
        for name, text in files.items():
            file = RegFile(text.encode())
            file.mtime = made
            etc.put(name, file)
        return etc

    def set_resolv_conf(self, text: str) -> None:
        """Programs see this /etc/resolv.conf from their next look on."""
        self.resolv_conf = text
        if self._vfs is not None:
            self._vfs.write("/etc/resolv.conf", text)

    def open_special(self, proc: Process, path: str) -> File | None:
        """Opening /dev/stdout or /proc/self/fd/N gives the process's own descriptor again."""
        if path.startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/")):
            number = {"/dev/stdin": "0", "/dev/stdout": "1", "/dev/stderr": "2"}.get(path, path.rpartition("/")[2])
            if number.isdigit():
                return proc.fds.get(int(number)).get()
        return None

    # ---- programs ---------------------------------------------------------------------------------------------------

    def resolve(self, argv: list[str], env: Mapping[str, str], cwd: str) -> tuple[Main, list[str]]:
        """(native main, argv) for a command line: PATH, links and #! lines followed. Raises OSError ENOENT, EACCES, ENOEXEC."""
        path = self.which(argv[0], env, cwd)
        for _ in range(4):
            node = self.vfs.peek(path, cwd)
            if isinstance(node, Program):
                return load_tool(node.tool), argv
            if isinstance(node, Dir) or not isinstance(node, RegFile) or not node.mode & 0o111:
                raise oserror(errno.EACCES)
            line = bytes(node.data[:256]).partition(b"\n")[0]
            if not line.startswith(b"#!"):
                raise oserror(errno.ENOEXEC)
            interpreter = line[2:].decode(errors="replace").split(None, 1)
            if not interpreter:
                raise oserror(errno.ENOEXEC)
            argv = [*interpreter, path, *argv[1:]]
            path = interpreter[0]
        raise oserror(errno.ELOOP)

    def which(self, name: str, env: Mapping[str, str], cwd: str) -> str:
        """The path that execvp(3) would run. Raises ENOENT, EACCES."""
        if "/" in name:
            return name
        failure = errno.ENOENT
        for directory in env.get("PATH", PATH).split(":"):
            path = f"{directory or '.'}/{name}"
            try:
                node = self.vfs.peek(path, cwd)
            except OSError:
                continue
            if isinstance(node, RegFile) and node.mode & 0o111:
                return path
            failure = errno.EACCES
        raise oserror(failure)

    def _new_process(self, argv: list[str], main: Main, fds: FdTable, env: Mapping[str, str], cwd: str, ppid: int) -> Process:
        pid = self._next_pid
        self._next_pid += 1
        proc = Process(self, pid, ppid, argv, main, fds, env, cwd)
        self.processes[pid] = proc
        return proc

    def entry_argv(self) -> list[str]:
        """What pid 1 is: command replaces ENTRYPOINT (and drops CMD), args replaces CMD."""
        if self.command:
            return [*self.command, *(self.args or [])]
        return [*self.image.entrypoint, *(self.args if self.args else self.image.cmd)]

    def start(self) -> Process:
        """Run pid 1. Raises ExecError if there is no such program."""
        argv = self.entry_argv()
        if not argv:
            raise ExecError(128, "no command specified")
        fds = FdTable()
        fds.install(OpenFile(self.loop, "/dev/null", Device("null"), 0, self.vfs.now))
        for stream in (1, 2):
            fds.install(OutputFile(self.loop, self._log, stream))
        proc = self._start(argv, fds, self.env, self.workdir)
        self.main = proc
        return proc

    def _start(self, argv: list[str], fds: FdTable, env: Mapping[str, str], cwd: str) -> Process:
        try:
            main, argv = self.resolve(argv, env, cwd)
        except OSError as error:
            fds.close_all()
            raise exec_error(argv[0], error) from None
        proc = self._new_process(argv, main, fds, env, cwd, 0)
        proc.start()
        return proc

    def exec(
        self,
        argv: list[str],
        stdin: bytes | None | bool = None,
        env: Mapping[str, str] | None = None,
        tty: bool = False,
        on_output: OnOutput | None = None,
        cwd: str = "",
    ) -> Process:
        """A process beside pid 1. stdin: bytes are its whole input; True leaves proc.stdin open for feed() and feed_eof().

        Output goes to on_output(stream, data), else to proc.output. Raises ExecError.
        """
        holder: list[Process] = []

        def collect(stream: int, data: bytes) -> None:
            holder[0].output.append((stream, data))

        sink = on_output or collect
        fds = FdTable()
        terminal: Terminal | None = None
        writer: PipeWriter | None = None
        if tty:
            from kubenet.userland.tty import Terminal

            terminal = Terminal(self.loop, sink)
            for _ in range(3):
                fds.install(terminal if not fds.files else terminal.get())
        else:
            reader, writer = make_pipe(self.loop)
            reader.pipe.capacity = 1 << 30  # the input is the host's: it never waits
            fds.install(reader)
            for stream in (1, 2):
                fds.install(OutputFile(self.loop, sink, stream))
        full = Layers(self.env, {"TERM": "xterm"} if tty else {}, env or {})
        proc = self._start(list(argv), fds, full, cwd or self.workdir)
        holder.append(proc)
        if terminal is not None:
            terminal.foreground = proc
        proc.stdin = terminal or writer
        if stdin is not True:
            feed(proc, stdin if isinstance(stdin, bytes) else b"")
            feed_eof(proc)
        return proc

    def run_native(self, main: Main, argv: list[str], stdin: bool = False, on_output: OnOutput | None = None) -> Process:
        """A process beside pid 1 that runs a native program which is no file of the image.

        With stdin its input is open for feed() and feed_eof(). Output goes to on_output(stream, data), else to proc.output.
        """
        holder: list[Process] = []
        fds = FdTable()
        writer: PipeWriter | None = None
        if stdin:
            reader, writer = make_pipe(self.loop)
            reader.pipe.capacity = 1 << 30  # the input is the host's: it never waits
            fds.install(reader)
        else:
            fds.install(OpenFile(self.loop, "/dev/null", Device("null"), 0, self.vfs.now))
        sink = on_output or (lambda number, data: holder[0].output.append((number, data)))
        for stream in (1, 2):
            fds.install(OutputFile(self.loop, sink, stream))
        proc = self._new_process(argv, main, fds, self.env, "/", 0)
        proc.stdin = writer
        holder.append(proc)
        proc.start()
        return proc

    def spawn_child(self, parent: Process, argv: list[str], fds: dict[int, int], env: dict[str, str], cwd: str) -> Process:
        """A child of `parent` with the descriptors {its: parent's}. Raises OSError."""
        main, argv = self.resolve(argv, env, cwd)
        return self.fork(parent, main, argv, fds, env, cwd)

    def fork(self, parent: Process, main: Main, argv: list[str], fds: dict[int, int], env: dict[str, str], cwd: str) -> Process:
        """A child that runs `main`: a resolved program, or a shell's own code (a subshell)."""
        table = FdTable(parent.fds.limit)
        for new in sorted(fds):
            table.files[new] = parent.fds.get(fds[new]).get()
        proc = self._new_process(argv, main, table, dict(env), cwd, parent.pid)
        proc.umask, proc.uid = parent.umask, parent.uid
        proc.handlers = {n: h for n, h in parent.handlers.items() if h == "ignore"}
        parent.children.append(proc)
        if parent.sys.tracer is not None:
            parent.sys.tracer.forked(parent, proc)
        proc.start()
        return proc

    # ---- end --------------------------------------------------------------------------------------------------------

    def process_ended(self, proc: Process) -> None:
        """A process became a zombie. Orphans go to pid 1; the end of pid 1 is the end of all."""
        parent = self.processes.get(proc.ppid)
        init = self.processes.get(1)
        for child in proc.children:
            child.ppid = 1 if init is not None and not init.done else 0
            if child.done:
                self.reap(child)
            elif init is not None and not init.done:
                init.children.append(child)
        proc.children.clear()
        if parent is None or parent.done:
            self.reap(proc)
        else:
            parent.child_wait.wake()
            parent.kill(SIGCHLD)
        if proc is self.main:
            self._ended(proc.exit_code)

    def reap(self, proc: Process) -> None:
        """The zombie is gone."""
        self.processes.pop(proc.pid, None)

    def _ended(self, code: int) -> None:
        for other in list(self.processes.values()):
            if not other.done:
                other.terminate(SIGKILL)
        if self.host.extra.get("containers", {}).get(self.name) is self:
            del self.host.extra["containers"][self.name]
        if self.on_exit is not None:
            self.on_exit(self, code)

    @property
    def running(self) -> bool:
        """True while pid 1 lives."""
        return self.main is not None and not self.main.done

    def stop(self, grace: int) -> None:
        """Ask pid 1 to end, and kill it when `grace` ns are over."""
        if not self.running or self.main is None:
            return
        self.stopping = True
        self.main.kill(SIGNAL_NUMBERS[self.image.stop_signal], outside=True)
        self.loop.call_later(max(grace, 0), Container._kill, self)

    def _kill(self) -> None:
        if self.running and self.main is not None:
            self.main.kill(SIGKILL, outside=True)

    def kill(self) -> None:
        """SIGKILL, now: a node that dies, a container over its memory limit."""
        self._kill()

    @property
    def frozen(self) -> bool:
        """True while no program of it runs."""
        return self.freezers > 0

    def freeze(self, frozen: bool) -> None:
        """No program of the container runs any more, or they all go on; the kernel works as ever. Linux: cgroup.freeze, docker pause."""
        self.freezers += 1 if frozen else -1
        if self.freezers != (1 if frozen else 0):
            return
        for proc in self.processes.values():
            for task in (proc.task, *proc.threads):
                if task is not None and frozen:
                    task.freeze()
                elif task is not None:
                    task.thaw()

    # ---- log --------------------------------------------------------------------------------------------------------

    def _log(self, stream: int, data: bytes) -> None:
        self.log.append((self.loop.now, stream, data))
        self.log_bytes += len(data)
        while self.log_bytes > LOG_LIMIT and len(self.log) > 1:
            self.log_bytes -= len(self.log.pop(0)[2])
        for callback in self.on_log:
            callback(self.loop.now, stream, data)

    def log_text(self) -> str:
        """The whole log, both streams in order."""
        return b"".join(data for _, _, data in self.log).decode(errors="replace")

    def watchdog(self, seconds: float) -> None:
        """Stop programs that compute for `seconds` of host time without a system call (watchdog.py)."""
        from kubenet.userland import watchdog

        watchdog.enable(seconds)


def feed(proc: Process, data: bytes) -> None:
    """Bytes arrive on an exec's standard input. From the hub."""
    target = proc.stdin
    if not data or target is None:
        return
    if isinstance(target, PipeWriter):
        if target.pipe.readers:
            target.pipe.chunks.append(bytes(data))
            target.pipe.size += len(data)
            target.peer.wait.wake()
    else:
        target.feed(data)


def feed_eof(proc: Process) -> None:
    """An exec's standard input ends."""
    target, proc.stdin = proc.stdin, None
    if isinstance(target, PipeWriter):
        target.put()
    elif target is not None:
        target.feed_eof()


def exec_error(name: str, error: OSError) -> ExecError:
    """What runc says, and the exit code that follows from it."""
    head = "OCI runtime exec failed: exec failed: unable to start container process: exec"
    if error.errno == errno.ENOENT:
        words = "no such file or directory" if "/" in name else "executable file not found in $PATH"
        detail = f"stat {name}: {words}" if "/" in name else words
        return ExecError(127, f'{head}: "{name}": {detail}')
    words = {errno.EACCES: "permission denied", errno.ENOEXEC: "exec format error"}.get(error.errno or 0, str(error.strerror))
    return ExecError(126, f'{head}: "{name}": {words}')


def _dev() -> Dir:
    """/dev as a runtime fills it."""
    links = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    return Dir({**{name: Device(name) for name in ("null", "zero", "full", "random", "urandom", "tty")},
                **{name: Symlink(target) for name, target in links.items()}})


def default_hosts(hostname: str) -> str:
    """An /etc/hosts as a runtime writes it when nobody gives one."""
    del hostname
    return "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def containers_of(host: Host) -> dict[str, Container]:
    """The running containers of a machine, by name."""
    found: dict[str, Container] = host.extra.get("containers", {})
    return found
