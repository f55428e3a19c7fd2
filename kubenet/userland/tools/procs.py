"""ps, kill, pkill, pgrep, pidof, top: the processes of the container.

`ps` prints procps' columns for -ef, aux and -o, and its default without options. On a node the pods' processes are listed too,
behind the node's own: their pids are those of their containers (simplified: one pid namespace would renumber them).
"""

from __future__ import annotations

import re

from kubenet.units import SEC
from kubenet.userland.process import SIGNAL_NAMES, Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import format_time, signal_number


def visible(proc: Process) -> list[Process]:
    """The processes that `proc` sees, by pid."""
    return [p for _, p in sorted(proc.container.processes.items())]


def command_line(proc: Process) -> str:
    """The CMD column."""
    text = " ".join(proc.argv)
    return f"[{proc.argv[0].rpartition('/')[2]}] <defunct>" if proc.done else text


@tool("ps")
def ps(proc: Process, argv: list[str]) -> int:
    """ps [-ef | aux | -o COLUMN,...]"""
    args = argv[1:]
    flags = "".join(a.lstrip("-") for a in args if not a.startswith("-o"))
    rows = visible(proc)
    if "-o" in args:
        return _ps_columns(proc, rows, args[args.index("-o") + 1].split(","))
    if "busybox" in proc.container.image.name or "alpine" in proc.container.image.name:
        proc.out("PID   USER     TIME  COMMAND\n" + "".join(f"{p.pid:5d} root      0:00 {command_line(p)}\n" for p in rows))
    elif "u" in flags and "x" in flags:
        proc.out("USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n")
        for p in rows:
            proc.out(f"root     {p.pid:7d}  0.0  0.0   2576   888 {_tty(p):<8} {_stat(p, proc):<4} {_start(p)}   0:00 "
                     f"{command_line(p)}\n")
    elif "f" in flags:
        proc.out("UID          PID    PPID  C STIME TTY          TIME CMD\n")
        for p in rows:
            proc.out(f"root     {p.pid:7d} {p.ppid:7d}  0 {_start(p)} {_tty(p):<8} 00:00:00 {command_line(p)}\n")
    else:
        proc.out("    PID TTY          TIME CMD\n")
        for p in rows:
            if "e" in flags or "a" in flags or p is proc or p.pid == proc.ppid:
                proc.out(f"{p.pid:7d} {_tty(p):<8} 00:00:00 {p.argv[0].rpartition('/')[2]}\n")
    return 0


def _tty(p: Process) -> str:
    file = p.fds.files.get(0)
    return "pts/0" if file is not None and file.name == "tty" else "?"


def _stat(p: Process, me: Process) -> str:
    return "Z" if p.done else "R" if p is me else "Ss" if p.pid == 1 else "S"


def _start(p: Process) -> str:
    return format_time(p.container.epoch + p.started, "%H:%M")


def _ps_columns(proc: Process, rows: list[Process], columns: list[str]) -> int:
    heads = {"pid": "    PID", "ppid": "   PPID", "cmd": "CMD", "args": "COMMAND", "comm": "COMMAND", "command": "COMMAND",
             "stat": "STAT", "state": "S", "user": "USER    ", "uid": "  UID", "time": "    TIME", "etime": "    ELAPSED"}

    def cell(p: Process, column: str) -> str:
        up = (p.container.loop.now - p.started) // SEC
        return {"pid": f"{p.pid:7d}", "ppid": f"{p.ppid:7d}", "cmd": command_line(p), "args": command_line(p),
                "comm": p.argv[0].rpartition("/")[2], "command": command_line(p), "stat": f"{_stat(p, proc):<4}",
                "state": _stat(p, proc)[0], "user": "root    ", "uid": f"{p.uid:5d}", "time": "00:00:00",
                "etime": f"{up // 60:8d}:{up % 60:02d}"}.get(column, "-")

    names = [c.partition("=")[0] for c in columns]
    unknown = [name for name in names if name not in heads]
    if unknown:
        proc.err(f"error: unknown user-defined format specifier \"{unknown[0]}\"\n")
        return 1
    if not all("=" in c for c in columns):
        proc.out(" ".join(heads[name] for name in names).rstrip() + "\n")
    for p in rows:
        proc.out(" ".join(cell(p, name) for name in names).rstrip() + "\n")
    return 0


@tool("top")
def top(proc: Process, argv: list[str]) -> int:
    """top -b -n 1, in one picture."""
    proc.out("    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND\n")
    for p in visible(proc):
        proc.out(f"{p.pid:7d} root      20   0    2576    888    800 S   0.0   0.0   0:00.00 {p.argv[0].rpartition('/')[2]}\n")
    return 0


@tool("kill")
def kill(proc: Process, argv: list[str]) -> int:
    """kill [-s SIGNAL | -SIGNAL] PID ..., kill -l"""
    return kill_command(proc, argv)


def kill_command(proc: Process, argv: list[str]) -> int:
    """kill(1), also the shell's."""
    args, number = argv[1:], 15
    if args and args[0] == "-l":
        proc.out("\n".join(name for _, name in sorted(SIGNAL_NAMES.items())) + "\n")
        return 0
    if args and args[0] in ("-s", "-n") and len(args) > 1:
        text = args[1]
        args = args[2:]
    elif args and args[0].startswith("-") and args[0] != "--":
        text = args.pop(0)[1:]
    else:
        text = "15"
    found = signal_number(text)
    if found is None:
        proc.err(f"kill: invalid signal number or name: {text}\n")
        return 1
    number = found
    if not args:
        proc.err("kill: you need to specify whom to kill\n")
        return 1
    status = 0
    for arg in args:
        if not re.fullmatch(r"-?\d+", arg.lstrip("%")):
            proc.err(f"kill: invalid number '{arg}'\n")
            status = 1
            continue
        try:
            proc.sys.kill(int(arg.lstrip("%")), number)
        except OSError as error:
            proc.err(f"kill: can't kill pid {arg}: {error.strerror}\n")
            status = 1
    return status


@tool("pkill", "killall", "pgrep", "pidof")
def pkill(proc: Process, argv: list[str]) -> int:
    """pkill [-SIGNAL] [-f] PATTERN, pgrep [-fl] PATTERN, killall NAME, pidof NAME"""
    who = argv[0].rpartition("/")[2]
    number, full, exact, names, long = 15, False, who in ("killall", "pidof"), [], False
    for arg in argv[1:]:
        if arg.startswith("-"):
            signal = signal_number(arg[1:])
            number = signal if signal is not None and who in ("pkill", "killall") else number
            full, exact, long = full or "f" in arg, exact or arg == "-x", long or "l" in arg or arg == "-a"
        else:
            names.append(arg)
    found = [p for p in visible(proc) if p is not proc and not p.done and any(_matches(p, n, full, exact) for n in names)]
    if who == "pidof":
        if found:
            proc.out(" ".join(str(p.pid) for p in reversed(found)) + "\n")
    elif who == "pgrep":
        proc.out("".join(f"{p.pid}" + (f" {command_line(p) if full else p.argv[0].rpartition('/')[2]}" if long else "") + "\n"
                         for p in found))
    else:
        for p in found:
            proc.sys.kill(p.pid, number)
        if not found and who == "killall":
            proc.err(f"{names[0] if names else ''}: no process found\n")
    return 0 if found else 1


def _matches(p: Process, pattern: str, full: bool, exact: bool) -> bool:
    text = command_line(p) if full else p.argv[0].rpartition("/")[2]
    return text == pattern if exact else re.search(pattern, text) is not None
