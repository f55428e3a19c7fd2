"""strace: the system calls of a program.

    strace [-f] [-c] [-C] [-t[t[t]]] [-r] [-T] [-q[q]] [-s N] [-e trace=SET] [-o FILE] {-p PID | COMMAND [ARG...]}

Programs here make the calls of userland/syscalls.py, whether they are native tools or Python; each is shown when it begins and when it
returns, as strace does, in virtual time. What the real program would do besides (loading libraries, mapping memory) does not exist, so
it is not shown. Nothing about the program changes by being watched. Source: strace(1), observed output of strace 6.1.
"""

from __future__ import annotations

from typing import Any

from kubenet.sim.wait import WaitQueue
from kubenet.units import SEC, USEC
from kubenet.userland.process import SIGNAL_NAMES, Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import format_time
from kubenet.userland.tools.strace_text import GROUPS, KNOWN, NAMES, Writer, failed, returned

COLUMN = 39
CLONE = "child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=..."


class Options:
    """What the command line asked for."""

    def __init__(self) -> None:
        self.follow = False
        self.summary = ""          # "only" (-c) or "too" (-C)
        self.stamps = 0            # -t: 1, -tt: 2, -ttt: 3
        self.relative = self.spent = False
        self.quiet = 0
        self.wanted: frozenset[str] | None = None
        self.output = ""
        self.pids: list[int] = []
        self.command: list[str] = []
        self.longest = 32


class Usage(Exception):
    """A command line that strace refuses."""


def parse_set(text: str) -> frozenset[str]:
    """network,read or !close of -e. Raises Usage."""
    negated, text = text.startswith("!"), text.lstrip("!")
    found: set[str] = set()
    for word in text.split(","):
        name = word.lstrip("%?")
        if name == "all":
            found |= KNOWN
        elif name in GROUPS and (word.startswith("%") or name not in KNOWN):
            found.update(GROUPS[name])
        elif name in KNOWN or name in NAMES or name == "none":
            found.add(NAMES.get(name, name))
        else:
            raise Usage(f"strace: invalid system call '{word}'")
    return frozenset((KNOWN | {"listdir"}) - found if negated else found)


def parse(argv: list[str]) -> Options:
    """The options. Raises Usage."""
    o, args = Options(), argv[1:]
    while args and args[0].startswith("-") and args[0] != "-":
        word = args.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in "eopsSabEuPXO":
                if not letters and not args:
                    raise Usage(f"strace: option requires an argument -- '{letter}'\nTry 'strace -h' for more information.")
                _valued(o, letter, letters or args.pop(0))
                break
            _plain(o, letter)
    o.command = args
    if not o.command and not o.pids:
        raise Usage("strace: must have PROG [ARGS] or -p PID\nTry 'strace -h' for more information.")
    return o


def _plain(o: Options, letter: str) -> None:
    if letter == "f":
        o.follow = True
    elif letter in "cC":
        o.summary = "only" if letter == "c" else "too"
    elif letter == "t":
        o.stamps += 1
    elif letter == "r":
        o.relative = True
    elif letter == "T":
        o.spent = True
    elif letter == "q":
        o.quiet += 1
    elif letter not in "vxyhnk":
        raise Usage(f"strace: invalid option -- '{letter}'\nTry 'strace -h' for more information.")


def _valued(o: Options, letter: str, value: str) -> None:
    if letter == "e":
        kind, equals, names = value.partition("=")
        if not equals:
            kind, names = "trace", value
        if kind in ("trace", "t"):
            o.wanted = parse_set(names)
    elif letter == "o":
        o.output = value
    elif letter == "p":
        for pid in value.replace(",", " ").split():
            if not pid.isdigit():
                raise Usage(f"strace: Invalid process id: '{value}'")
            o.pids.append(int(pid))
    elif letter == "s":
        if not value.isdigit():
            raise Usage(f"strace: invalid -s argument: '{value}'")
        o.longest = int(value)


class Tracer:
    """One strace: which processes it watches, and the line that is being written."""

    def __init__(self, proc: Process, o: Options, out: Any) -> None:
        self.proc = proc
        self.o = o
        self.out = out
        self.writer = Writer(o.longest)
        self.tracees: dict[int, Process] = {}
        self.wait = WaitQueue(proc.container.loop, "strace")
        self.open: tuple[int, int] | None = None  # (pid, length of the text) of a call that has begun and owns the line
        self.begun: dict[int, tuple[str, int, bool]] = {}  # pid -> (name, time, printed)
        self.counts: dict[str, list[int]] = {}  # name -> [calls, errors, ns]
        self.last = -1

    # ---- what Sys tells

    def enter(self, tracee: Process, name: str, args: tuple[Any, ...]) -> None:
        """A call begins."""
        shown = self._shows(name)
        self.begun[tracee.pid] = name, self.proc.sys.loop.now, shown
        if shown:
            self._start_line(tracee, self.writer.begin(name, args))

    def leave(self, tracee: Process, name: str, args: tuple[Any, ...], result: Any, error: OSError | None) -> None:
        """It returns."""
        began = self.begun.pop(tracee.pid, None)
        kernel = NAMES.get(name, name)
        if self.o.wanted is not None and kernel not in self.o.wanted:
            return
        spent = self.proc.sys.loop.now - began[1] if began is not None else 0
        count = self.counts.setdefault(kernel, [0, 0, 0])
        count[0] += 1
        count[1] += error is not None
        if self.o.summary == "only":
            return
        if began is None:  # it was under way when strace came
            self._start_line(tracee, self.writer.begin(name, args))
        tail = self.writer.end(name, args, result, error)
        text = failed(error) if error is not None else returned(name, result)
        took = f" <{spent / SEC:.6f}>" if self.o.spent else ""
        self._returned(tracee, kernel, tail, text, took)

    def _returned(self, tracee: Process, kernel: str, tail: str, text: str, took: str) -> None:
        """The rest of a call's line."""
        if self.open is not None and self.open[0] == tracee.pid:
            length = self.open[1] + len(tail) + 1
            self._write(f"{tail}){' ' * max(COLUMN - length, 0)} = {text}{took}\n")
        else:
            self._end_line()
            head = f"<... {kernel} resumed>"
            self._write(self._head(tracee) + f"{head}{tail}){' ' * max(COLUMN - len(head) - len(tail) - 1, 0)} = {text}{took}\n")
        self.open = None

    def ended(self, tracee: Process) -> None:
        """The program is over."""
        tracee.sys.tracer = None
        if self.o.summary != "only":
            self._say_ended(tracee)
        del self.tracees[tracee.pid]
        self.wait.wake()

    def _say_ended(self, tracee: Process) -> None:
        if self.open is not None and self.open[0] == tracee.pid:
            text = " <unfinished ...>)"
            self._write(f"{text}{' ' * max(COLUMN - self.open[1] - len(text), 0)} = ?\n")
            self.open = None
        if tracee.signaled:
            self._line(tracee, f"+++ killed by SIG{SIGNAL_NAMES.get(tracee.signaled, tracee.signaled)} +++")
        else:
            if self._shows("exit_group"):
                self._line(tracee, f"{f'exit_group({tracee.exit_code})':<{COLUMN}} = ?")
            if self.o.quiet < 2:
                self._line(tracee, f"+++ exited with {tracee.exit_code} +++")

    # ---- attaching

    def attach(self, tracee: Process) -> None:
        """Its calls are shown from now on."""
        self.tracees[tracee.pid] = tracee
        tracee.sys.tracer = self
        tracee.on_exit.append(self.ended)

    def detach(self) -> list[int]:
        """Nothing is watched any more; the pids that were."""
        pids = list(self.tracees)
        for tracee in self.tracees.values():
            tracee.sys.tracer = None
            tracee.on_exit = [call for call in tracee.on_exit if call != self.ended]
        self.tracees = {}
        return pids

    def forked(self, parent: Process, child: Process) -> None:
        """A tracee has a child: a program, or a shell's copy of itself."""
        runs_program = child.main is not parent.main and child.argv is not parent.argv
        asked = self.begun.get(parent.pid, ("",))[0] == "spawn"
        if not asked and self._shows("vfork"):
            self._start_line(parent, "vfork(" if runs_program else f"clone({CLONE}")
        if self.o.follow:
            if not self.o.quiet and self.o.summary != "only":
                self._note(f"strace: Process {child.pid} attached\n")
            self.attach(child)
            if runs_program:
                self.exec_line(child)
        if not asked and self._shows("vfork"):
            self._returned(parent, "vfork" if runs_program else "clone", "", str(child.pid), "")

    def exec_line(self, child: Process) -> None:
        """The first call of a program that strace or a child has started."""
        if self._shows("execve"):
            words = ", ".join(self.writer.path(word) for word in child.argv)
            self.counts.setdefault("execve", [0, 0, 0])[0] += 1
            if self.o.summary != "only":
                text = f"execve({self.writer.path(program(child))}, [{words}], [/* {len(child.env)} vars */])"
                self._line(child, f"{text:<{COLUMN}} = 0")
        elif self.o.wanted is None:
            self.counts.setdefault("execve", [0, 0, 0])[0] += 1

    # ---- writing

    def _shows(self, name: str) -> bool:
        return self.o.summary != "only" and (self.o.wanted is None or NAMES.get(name, name) in self.o.wanted)

    def _head(self, tracee: Process) -> str:
        now, epoch, out = self.proc.sys.loop.now, self.proc.container.epoch, ""
        if len(self.tracees) > 1:
            out = f"{tracee.pid:<5} " if self.o.output else f"[pid {tracee.pid:5d}] "
        if self.o.relative:
            out += f"{(now - self.last if self.last >= 0 else 0) / SEC:10.6f} "
            self.last = now
        elif self.o.stamps >= 3:
            out += f"{(epoch + now) // SEC}.{(epoch + now) % SEC // USEC:06d} "
        elif self.o.stamps:
            out += format_time(epoch + now, "%H:%M:%S.%6N " if self.o.stamps == 2 else "%H:%M:%S ")
        return out

    def _start_line(self, tracee: Process, text: str) -> None:
        self._end_line()
        self._write(self._head(tracee) + text)
        self.open = tracee.pid, len(text)

    def _end_line(self) -> None:
        if self.open is not None:
            self._write(" <unfinished ...>\n")
            self.open = None

    def _line(self, tracee: Process, text: str) -> None:
        self._end_line()
        self._write(self._head(tracee) + text + "\n")

    def _note(self, text: str) -> None:
        self._end_line()
        self.proc.sys.file(2).write(text.encode())

    def _write(self, text: str) -> None:
        if self.proc.dead or self.proc.done:
            return
        try:
            self.out.write(text.encode("utf-8", "surrogateescape"))
        except OSError:
            pass

    def summary(self) -> str:
        """-c. The kernel's time for a call is nothing here, so the times are 0."""
        rows = sorted(self.counts.items(), key=lambda row: (-row[1][0], row[0]))
        rule = "------ ----------- ----------- --------- --------- ----------------\n"
        out = f"% time     seconds  usecs/call     calls    errors syscall\n{rule}"
        for name, (calls, errors, _) in rows:
            out += f"{0:6.2f} {0:11.6f} {0:11d} {calls:9d} {errors or '':>9} {name}\n"
        calls, errors = sum(row[0] for _, row in rows), sum(row[1] for _, row in rows)
        return f"{out}{rule}{100:6.2f} {0:11.6f} {0:11d} {calls:9d} {errors or '':>9} total\n"


def program(tracee: Process) -> str:
    """The path that was run."""
    try:
        return tracee.container.which(tracee.argv[0], tracee.env, tracee.cwd)
    except OSError:
        return tracee.argv[0]


@tool("strace")
def main(proc: Process, argv: list[str]) -> int:
    """See the head of this file. The exit code is the program's."""
    try:
        o = parse(argv)
    except Usage as error:
        proc.err(f"{error}\n")
        return 1
    tracer = Tracer(proc, o, proc.sys.file(2))
    if o.output:
        try:
            tracer.out = proc.sys.file(proc.sys.open(o.output, 0o1101, 0o666))  # O_WRONLY | O_CREAT | O_TRUNC
        except OSError as error:
            proc.err(f"strace: Can't fopen '{o.output}': {error.strerror}\n")
            return 1
    for pid in o.pids:
        tracee = proc.container.processes.get(pid)
        if tracee is None or tracee.done:
            proc.err(f"strace: attach: ptrace(PTRACE_SEIZE, {pid}): No such process\n")
            return 1
        if tracee is proc:
            proc.err("strace: I'm sorry, I can't let myself be traced.\n")
            return 1
        if tracee.sys.tracer is not None:
            proc.err(f"strace: attach: ptrace(PTRACE_SEIZE, {pid}): Operation not permitted\n")
            return 1
        tracer.attach(tracee)
        if not o.quiet:
            proc.err(f"strace: Process {pid} attached\n")
    code = _run(proc, o, tracer) if o.command else _watch(proc, tracer)
    if o.summary:
        tracer.out.write(tracer.summary().encode())
    return code


def _run(proc: Process, o: Options, tracer: Tracer) -> int:
    """Start the program and wait for it."""
    try:
        pid = proc.sys.spawn(o.command, {fd: fd for fd in (0, 1, 2) if fd in proc.fds.files}, proc.env, proc.cwd)
    except OSError as error:
        proc.err(f"strace: Can't stat '{o.command[0]}': {error.strerror}\n")
        return 1
    tracee = proc.container.processes[pid]
    tracer.attach(tracee)
    tracer.exec_line(tracee)
    for number in (1, 2, 3, 15):
        proc.handlers[number] = lambda number: tracee.kill(number)
    code = proc.sys.waitpid(pid)[1]
    if tracer.tracees:
        _watch(proc, tracer)
    return code


def _watch(proc: Process, tracer: Tracer) -> int:
    """Until what is watched is over, or a signal ends the watching."""
    asked: list[int] = []
    for number in (1, 2, 3, 15):
        proc.handlers[number] = asked.append
    proc.sys.wait_on(tracer.wait, lambda: asked or not tracer.tracees, None)
    open_at = tracer.open
    for pid in tracer.detach():
        if open_at is not None and open_at[0] == pid:
            tracer.out.write(b" <detached ...>\n")
            tracer.open = None
        if not tracer.o.quiet:
            proc.err(f"strace: Process {pid} detached\n")
    return 0
