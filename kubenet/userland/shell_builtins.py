"""The commands that sh runs itself, because they change its state or would be slow as processes.

Each is a function (shell, argv) -> status. Source: POSIX.1-2017 XCU 2.14 (special builtins) and the utilities that ash and dash
build in. The texts of messages are busybox ash's.
"""

from __future__ import annotations

from collections.abc import Callable

from kubenet.userland.process import IGNORE, SIGNAL_NAMES, SIGNAL_NUMBERS, Exit
from kubenet.userland.shell import Break, Return, Shell, read_line
from kubenet.userland.tools.coreutils import echo_text, evaluate_test, printf_text

Builtin = Callable[[Shell, list[str]], int]


def _colon(shell: Shell, argv: list[str]) -> int:
    return 0


def _false(shell: Shell, argv: list[str]) -> int:
    return 1


def _echo(shell: Shell, argv: list[str]) -> int:
    shell.proc.out(echo_text(argv[1:]))
    return 0


def _printf(shell: Shell, argv: list[str]) -> int:
    if len(argv) < 2:
        shell.complain("printf: usage: printf FORMAT [ARG]...")
        return 2
    text, status, complaint = printf_text(argv[1], argv[2:])
    shell.proc.out(text)
    if complaint:
        shell.complain(f"printf: {complaint}")
    return status


def _test(shell: Shell, argv: list[str]) -> int:
    args = argv[1:]
    if argv[0] == "[":
        if not args or args[-1] != "]":
            shell.complain("[: missing ]")
            return 2
        args = args[:-1]
    try:
        return 0 if evaluate_test(shell.proc, args) else 1
    except ValueError as error:
        shell.complain(f"{argv[0]}: {error}")
        return 2


def _double_test(shell: Shell, argv: list[str]) -> int:
    """[[ ... ]]: && and || inside, == as a pattern, =~."""
    words = ["-a" if w == "&&" else "-o" if w == "||" else w for w in argv[1:-1]]
    try:
        return 0 if evaluate_test(shell.proc, words, extended=True) else 1
    except ValueError as error:
        shell.complain(f"[[: {error}")
        return 2


def _cd(shell: Shell, argv: list[str]) -> int:
    target = argv[1] if len(argv) > 1 else shell.get("HOME", "/")
    if target == "-":
        target = shell.get("OLDPWD", shell.proc.cwd)
        shell.proc.out(target + "\n")
    old = shell.proc.cwd
    try:
        shell.proc.sys.chdir(target)
    except OSError as error:
        shell.complain(f"cd: can't cd to {target}: {error.strerror}")
        return 2
    shell.vars["OLDPWD"], shell.vars["PWD"] = old, shell.proc.cwd
    return 0


def _pwd(shell: Shell, argv: list[str]) -> int:
    shell.proc.out(shell.proc.cwd + "\n")
    return 0


def _exit(shell: Shell, argv: list[str]) -> int:
    if len(argv) > 1 and not argv[1].lstrip("-").isdigit():
        shell.complain(f"exit: Illegal number: {argv[1]}")
        raise Exit(2)
    raise Exit((int(argv[1]) if len(argv) > 1 else shell.status) & 0xFF)


def _return(shell: Shell, argv: list[str]) -> int:
    raise Return(int(argv[1]) & 0xFF if len(argv) > 1 else shell.status)


def _break(shell: Shell, argv: list[str]) -> int:
    raise Break(int(argv[1]) if len(argv) > 1 else 1, argv[0] == "continue")


def _export(shell: Shell, argv: list[str]) -> int:
    if len(argv) == 1 or argv[1] == "-p":
        for name in sorted(shell.exported):
            if name in shell.vars:
                shell.proc.out(f"export {name}='{shell.vars[name]}'\n")
    for arg in argv[1:]:
        if arg.startswith("-"):
            continue
        name, equals, value = arg.partition("=")
        if equals:
            shell.set(name, value)
        shell.exported[name] = True
    return 0


def _readonly(shell: Shell, argv: list[str]) -> int:
    for arg in argv[1:]:
        name, equals, value = arg.partition("=")
        if equals:
            shell.set(name, value)
        shell.readonly[name] = True
    return 0


def _local(shell: Shell, argv: list[str]) -> int:
    if not shell.locals:
        shell.complain("local: not in a function")
        return 1
    for arg in argv[1:]:
        name, equals, value = arg.partition("=")
        shell.locals[-1].setdefault(name, shell.vars.get(name))
        if equals:
            shell.set(name, value)
    return 0


def _unset(shell: Shell, argv: list[str]) -> int:
    for name in argv[1:]:
        if not name.startswith("-"):
            shell.vars.pop(name, None)
            shell.exported.pop(name, None)
            shell.functions.pop(name, None)
    return 0


def _set(shell: Shell, argv: list[str]) -> int:
    args = argv[1:]
    if not args:
        for name in sorted(shell.vars):
            shell.proc.out(f"{name}='{shell.vars[name]}'\n")
        return 0
    while args and args[0][:1] in ("-", "+") and len(args[0]) > 1:
        flag = args.pop(0)
        if flag == "--":
            break
        on = flag[0] == "-"
        for letter in flag[1:]:
            name = args.pop(0) if letter == "o" and args else letter
            name = {"errexit": "e", "nounset": "u", "xtrace": "x", "noglob": "f"}.get(name, name)
            if on:
                shell.options[name] = True
            else:
                shell.options.pop(name, None)
        if not args:
            return 0
    shell.args = args
    return 0


def _shift(shell: Shell, argv: list[str]) -> int:
    count = int(argv[1]) if len(argv) > 1 else 1
    if count > len(shell.args):
        return 1
    del shell.args[:count]
    return 0


def _eval(shell: Shell, argv: list[str]) -> int:
    return shell.run_text(" ".join(argv[1:]))


def _source(shell: Shell, argv: list[str]) -> int:
    if len(argv) < 2:
        shell.complain(f"{argv[0]}: filename argument required")
        return 2
    try:
        text = shell.proc.read_file(argv[1])
    except OSError as error:
        shell.complain(f"{argv[0]}: can't open '{argv[1]}': {error.strerror}")
        return 2
    try:
        return shell.run_text(text.decode("utf-8", "surrogateescape"))
    except Return as done:
        return done.status


def _exec(shell: Shell, argv: list[str]) -> int:
    if len(argv) == 1:
        return 0
    try:
        main, real = shell.proc.container.resolve(argv[1:], {"PATH": shell.get("PATH", "")}, shell.proc.cwd)
    except OSError as error:
        shell.complain(f"exec: {argv[1]}: {'not found' if error.errno == 2 else error.strerror}")
        raise Exit(127 if error.errno == 2 else 126) from None
    return shell.become(main, real, shell.environment())


def _read(shell: Shell, argv: list[str]) -> int:
    args = argv[1:]
    raw = False
    while args and args[0].startswith("-"):
        flag = args.pop(0)
        raw = raw or "r" in flag
        if flag in ("-p", "-t", "-n", "-d", "-u") and args:
            value = args.pop(0)
            if flag == "-p":
                shell.proc.err(value)
    line = read_line(shell.proc, 0)
    ended = not line.endswith("\n")
    line = line.removesuffix("\n")
    if not raw:
        while line.endswith("\\") and not ended:
            more = read_line(shell.proc, 0)
            ended = not more.endswith("\n")
            line = line[:-1] + more.removesuffix("\n")
        line = line.replace("\\", "")
    names = args or ["REPLY"]
    ifs = shell.get("IFS", " \t\n")
    rest = line
    for name in names[:-1]:
        rest = rest.lstrip(ifs)
        end = next((at for at, c in enumerate(rest) if c in ifs), len(rest))
        shell.set(name, rest[:end])
        rest = rest[end + 1 :]
    shell.set(names[-1], rest.strip(ifs) if ifs else rest)
    return 1 if ended else 0


def _wait(shell: Shell, argv: list[str]) -> int:
    proc = shell.proc
    if len(argv) == 1:
        while proc.children:
            proc.sys.waitpid(-1, False, None)
        return 0
    status = 0
    for arg in argv[1:]:
        try:
            status = proc.sys.waitpid(int(arg.lstrip("%")), False, None)[1]
        except OSError:
            status = 127
    return status


def _trap(shell: Shell, argv: list[str]) -> int:
    args = argv[1:]
    if not args:
        for name, action in shell.traps.items():
            shell.proc.out(f"trap -- '{action}' {name}\n")
        return 0
    action = args[0] if len(args) > 1 else "-"
    for arg in args[1:] if len(args) > 1 else args:
        name = arg.removeprefix("SIG")
        if name.isdigit() and name != "0":
            name = SIGNAL_NAMES.get(int(name), name)
        if name not in ("EXIT", "0") and name not in SIGNAL_NUMBERS:
            shell.complain(f"trap: {arg}: invalid signal specification")
            return 1
        _set_trap(shell, name, action)
    return 0


def _set_trap(shell: Shell, name: str, action: str) -> None:
    if action == "-":
        shell.traps.pop(name, None)
    else:
        shell.traps[name] = action
    if name in ("EXIT", "0"):
        return
    number = SIGNAL_NUMBERS[name]
    if action == "-":
        shell.proc.handlers.pop(number, None)
    elif action == "":
        shell.proc.handlers[number] = IGNORE
    else:
        waiting: list[str] = shell.proc.extra.setdefault("traps", [])
        shell.proc.handlers[number] = lambda _number: waiting.append(name)


def _kill(shell: Shell, argv: list[str]) -> int:
    from kubenet.userland.tools.procs import kill_command

    return kill_command(shell.proc, argv)


def _type(shell: Shell, argv: list[str]) -> int:
    status = 0
    quiet = argv[0] == "command"
    for name in argv[1:] if not quiet else argv[2:]:
        if name in shell.functions:
            shell.proc.out(name + "\n" if quiet else f"{name} is a function\n")
        elif name in BUILTINS:
            shell.proc.out(name + "\n" if quiet else f"{name} is a shell builtin\n")
        else:
            try:
                path = shell.proc.container.which(name, {"PATH": shell.get("PATH", "")}, shell.proc.cwd)
                shell.proc.out(path + "\n" if quiet else f"{name} is {path}\n")
            except OSError:
                if not quiet:
                    shell.proc.out(f"{name}: not found\n")
                status = 127
    return status


def _command(shell: Shell, argv: list[str]) -> int:
    if len(argv) > 1 and argv[1] in ("-v", "-V"):
        return _type(shell, argv)
    if len(argv) < 2:
        return 0
    builtin = BUILTINS.get(argv[1])
    return builtin(shell, argv[1:]) if builtin else shell.program(argv[1:], {})


def _umask(shell: Shell, argv: list[str]) -> int:
    if len(argv) > 1:
        shell.proc.umask = int(argv[1], 8)
    else:
        shell.proc.out(f"{shell.proc.umask:04o}\n")
    return 0


def _ulimit(shell: Shell, argv: list[str]) -> int:
    args = [a for a in argv[1:] if a not in ("-S", "-H")]
    if "-n" in args and args[-1] != "-n":
        shell.proc.fds.limit = int(args[-1])
        return 0
    shell.proc.out(f"{shell.proc.fds.limit}\n" if "-n" in args else "unlimited\n")
    return 0


def _times(shell: Shell, argv: list[str]) -> int:
    shell.proc.out("0m0.00s 0m0.00s\n0m0.00s 0m0.00s\n")
    return 0


def _time(shell: Shell, argv: list[str]) -> int:
    """time COMMAND: virtual time; programs compute in none."""
    args = [a for a in argv[1:] if a != "-p"]
    began = shell.proc.container.loop.now
    status = _command(shell, ["command", *args]) if args else 0
    spent = shell.proc.container.loop.now - began
    if "-p" in argv:
        shell.proc.err(f"real {spent / 1e9:.2f}\nuser 0.00\nsys 0.00\n")
    else:
        minutes, ms = divmod(spent // 1_000_000, 60_000)
        shell.proc.err(f"\nreal\t{minutes}m{ms // 1000}.{ms % 1000:03d}s\nuser\t0m0.000s\nsys\t0m0.000s\n")
    return status


BUILTINS: dict[str, Builtin] = {
    ":": _colon, "true": _colon, "false": _false, "echo": _echo, "printf": _printf, "test": _test, "[": _test,
    "[[": _double_test, "cd": _cd, "pwd": _pwd, "exit": _exit, "return": _return, "break": _break, "continue": _break,
    "export": _export, "readonly": _readonly, "local": _local, "unset": _unset, "set": _set, "shift": _shift, "eval": _eval,
    ".": _source, "source": _source, "exec": _exec, "read": _read, "wait": _wait, "trap": _trap, "kill": _kill, "type": _type,
    "command": _command, "umask": _umask, "ulimit": _ulimit, "hash": _colon, "times": _times, "time": _time, "alias": _colon,
    "declare": _export,
}
SPECIAL = (":", ".", "break", "continue", "eval", "exec", "exit", "export", "readonly", "return", "set", "shift", "trap", "unset")

