"""The small commands: echo, printf, test, sleep, date, seq, env, timeout, hostname, uname ...

Texts are GNU coreutils' or busybox's where a program reads them. echo_text, printf_text and evaluate_test are also what the
shell's builtins call. Source: POSIX.1-2017 XCU 4, the GNU coreutils manual.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from kubenet.units import SEC
from kubenet.userland.process import SIGNAL_NAMES, SIGNAL_NUMBERS, Process
from kubenet.userland.shell_parse import unescape
from kubenet.userland.tools import tool
from kubenet.userland.vfs import Dir, Node, RegFile, Symlink, content


def echo_text(args: list[str]) -> str:
    """What echo prints: -n, -e and -E are options, as in bash and busybox."""
    newline, escapes = True, False
    while args and re.fullmatch(r"-[neE]+", args[0]):
        for letter in args[0][1:]:
            if letter == "n":
                newline = False
            else:
                escapes = letter == "e"
        args = args[1:]
    text = " ".join(args)
    if escapes:
        head, cut, _ = text.partition("\\c")
        text = unescape(head)
        newline = newline and not cut
    return text + ("\n" if newline else "")


def printf_text(fmt: str, args: list[str]) -> tuple[str, int, str]:
    """printf(1): (output, status, complaint). The format is used again while arguments are left."""
    out: list[str] = []
    status, complaint = 0, ""
    todo = list(args)
    pattern = re.compile(r"%(%|[-+ #0]*(?:\*|\d+)?(?:\.\d+)?[diouxXeEfgGcsbq])")
    while True:
        used = False
        at = 0
        for found in pattern.finditer(fmt):
            out.append(unescape(fmt[at : found.start()]))
            at = found.end()
            spec = found[1]
            if spec == "%":
                out.append("%")
                continue
            if "*" in spec:
                spec = spec.replace("*", todo.pop(0) if todo else "0")
            value = todo.pop(0) if todo else ""
            used = True
            text, problem = _format(spec, value)
            out.append(text)
            if problem:
                status, complaint = 1, problem
        out.append(unescape(fmt[at:]))
        if not todo or not used:
            return "".join(out), status, complaint


def _format(spec: str, value: str) -> tuple[str, str]:
    kind, flags = spec[-1], spec[:-1]
    if kind in "sb":
        return ("%" + flags + "s") % (unescape(value) if kind == "b" else value), ""
    if kind == "q":
        return ("'" + value.replace("'", "'\\''") + "'") if re.search(r"[^\w@%+=:,./-]", value) or not value else value, ""
    if kind == "c":
        return ("%" + flags + "s") % value[:1], ""
    problem = ""
    try:
        number: float = (ord(value[1]) if value[:1] in "\"'" and len(value) > 1 else
                         float(value) if kind in "eEfgG" else int(value or "0", 0))
    except ValueError:
        number, problem = 0, f"'{value}': invalid number"
    return ("%" + flags + ("d" if kind in "iu" else kind)) % number, problem


# ---- test -----------------------------------------------------------------------------------------------------------


def evaluate_test(proc: Process, args: list[str], extended: bool = False) -> bool:
    """test(1). Raises ValueError with what is wrong."""
    position = 0

    def peek(ahead: int = 0) -> str | None:
        return args[position + ahead] if position + ahead < len(args) else None

    def either() -> bool:
        nonlocal position
        value = both()
        while peek() == "-o":
            position += 1
            value = both() or value
        return value

    def both() -> bool:
        nonlocal position
        value = negated()
        while peek() == "-a":
            position += 1
            value = negated() and value
        return value

    def negated() -> bool:
        nonlocal position
        if peek() == "!" and len(args) > 1:
            position += 1
            return not negated()
        return primary()

    def primary() -> bool:
        nonlocal position
        word = peek()
        if word is None:
            raise ValueError("argument expected")
        operator = peek(1)
        if operator in _BINARY or (extended and operator in ("=~", "<", ">")):
            right = peek(2)
            if right is None:
                raise ValueError(f"{operator}: argument expected")
            position += 3
            return _binary(proc, word, operator or "", right, extended)
        if word == "(" and len(args) - position > 2:
            position += 1
            value = either()
            if peek() != ")":
                raise ValueError("closing paren expected")
            position += 1
            return value
        if re.fullmatch(r"-[bcdefghknprstuwxzLSN]", word) and operator is not None:
            position += 2
            return _unary(proc, word[1], operator)
        position += 1
        return word != ""

    if not args:
        return False
    value = either()
    if position < len(args):
        raise ValueError(f"{args[position]}: unknown operand")
    return value


_BINARY = ("=", "==", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef")


def _binary(proc: Process, left: str, op: str, right: str, extended: bool) -> bool:
    if op in ("=", "==", "!="):
        from fnmatch import fnmatchcase

        same = fnmatchcase(left, right) if extended else left == right
        return same == (op != "!=")
    if op == "=~":
        return re.search(right, left) is not None
    if op in ("<", ">"):
        return left < right if op == "<" else left > right
    if op in ("-nt", "-ot", "-ef"):
        a, b = _node(proc, left), _node(proc, right)
        if a is None or b is None:
            return False
        return a is b if op == "-ef" else a.mtime > b.mtime if op == "-nt" else a.mtime < b.mtime
    try:
        x, y = int(left), int(right)
    except ValueError as error:
        bad = left if not re.fullmatch(r"\s*[-+]?\d+\s*", left) else right
        raise ValueError(f"{bad}: bad number") from error
    return {"-eq": x == y, "-ne": x != y, "-lt": x < y, "-le": x <= y, "-gt": x > y, "-ge": x >= y}[op]


def _node(proc: Process, path: str, follow: bool = True) -> Node | None:
    try:
        return proc.vfs.lookup(path, proc.cwd, follow)
    except OSError:
        return None


def _unary(proc: Process, op: str, word: str) -> bool:
    if op == "n":
        return word != ""
    if op == "z":
        return word == ""
    if op == "t":
        file = proc.fds.files.get(int(word)) if word.isdigit() else None
        return file is not None and file.name == "tty"
    node = _node(proc, word, op not in "Lh")
    if node is None:
        return False
    if op == "f":
        return not isinstance(node, (Dir, Symlink)) and node.kind == RegFile.kind
    if op == "s":
        return len(content(node)) > 0 if not isinstance(node, Dir) else True
    if op == "x":
        return isinstance(node, Dir) or bool(node.mode & 0o111)
    return {"d": isinstance(node, Dir), "L": isinstance(node, Symlink), "h": isinstance(node, Symlink)}.get(op, op in "erw")


# ---- programs -------------------------------------------------------------------------------------------------------


@tool("echo")
def echo(proc: Process, argv: list[str]) -> int:
    """echo [-neE] [text ...]"""
    proc.out(echo_text(argv[1:]))
    return 0


@tool("printf")
def printf(proc: Process, argv: list[str]) -> int:
    """printf FORMAT [ARG ...]"""
    if len(argv) < 2:
        proc.err("printf: missing operand\n")
        return 1
    text, status, complaint = printf_text(argv[1], argv[2:])
    proc.out(text)
    if complaint:
        proc.err(f"printf: {complaint}\n")
    return status


@tool("test", "[")
def test(proc: Process, argv: list[str]) -> int:
    """test EXPRESSION, [ EXPRESSION ]"""
    args = argv[1:]
    if argv[0].endswith("["):
        if not args or args.pop() != "]":
            proc.err("[: missing ']'\n")
            return 2
    try:
        return 0 if evaluate_test(proc, args) else 1
    except ValueError as error:
        proc.err(f"{argv[0]}: {error}\n")
        return 2


@tool("true", "sync")
def true(proc: Process, argv: list[str]) -> int:
    """true"""
    return 0


@tool("false")
def false(proc: Process, argv: list[str]) -> int:
    """false"""
    return 1


def seconds(text: str) -> int:
    """Nanoseconds of "5", "0.5", "2m", "infinity" (sleep's and timeout's syntax). Raises ValueError."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
    number = text[:-1] if unit else text
    if number in ("inf", "infinity"):
        return 1 << 61
    if not re.fullmatch(r"\d*\.?\d*(e[-+]?\d+)?", number) or not number:
        raise ValueError(text)
    whole, _, fraction = number.partition(".")
    if "e" in number:
        return int(float(number) * (unit or 1) * SEC)
    return (int(whole or 0) * SEC + int((fraction + "0" * 9)[:9])) * (unit or 1)


@tool("sleep")
def sleep(proc: Process, argv: list[str]) -> int:
    """sleep NUMBER[smhd] ..."""
    if len(argv) < 2:
        proc.err("sleep: missing operand\nTry 'sleep --help' for more information.\n")
        return 1
    try:
        total = sum(seconds(arg) for arg in argv[1:])
    except ValueError as error:
        proc.err(f"sleep: invalid time interval '{error}'\nTry 'sleep --help' for more information.\n")
        return 1
    proc.sys.sleep(total)
    return 0


@tool("yes")
def yes(proc: Process, argv: list[str]) -> int:
    """yes [text]"""
    block = (" ".join(argv[1:] or ["y"]) + "\n").encode() * 512
    while True:
        proc.sys.write_all(1, block)


@tool("seq")
def seq(proc: Process, argv: list[str]) -> int:
    """seq [-s SEP] [-w] [FIRST [STEP]] LAST"""
    args, separator, width = argv[1:], "\n", False
    while args and re.fullmatch(r"-[swf].*", args[0]):
        flag = args.pop(0)
        if flag.startswith("-s"):
            separator = flag[2:] or (args.pop(0) if args else "\n")
        width = width or flag == "-w"
    try:
        numbers = [float(arg) if "." in arg else int(arg) for arg in args]
    except ValueError:
        bad = next(arg for arg in args if not re.fullmatch(r"-?\d*\.?\d+", arg))
        proc.err(f"seq: invalid floating point argument: '{bad}'\n")
        return 1
    if not 1 <= len(numbers) <= 3:
        proc.err("seq: missing operand\n")
        return 1
    first, step, last = (1, 1, numbers[0]) if len(numbers) == 1 else (
        (numbers[0], 1, numbers[1]) if len(numbers) == 2 else (numbers[0], numbers[1], numbers[2]))
    if step == 0:
        proc.err("seq: invalid Zero increment value: '0'\n")
        return 1
    digits = max(len(str(n).partition(".")[2]) for n in (first, step))
    values, count = [], 0
    while (value := first + count * step) <= last if step > 0 else value >= last:
        values.append(f"{value:.{digits}f}")
        count += 1
    if width:
        longest = max((len(v) for v in values), default=0)
        values = [v.zfill(longest) for v in values]
    if values:
        proc.out(separator.join(values) + "\n")
    return 0


@tool("date")
def date(proc: Process, argv: list[str]) -> int:
    """date [-u] [-d @SECONDS] [-I[seconds]] [+FORMAT]: virtual time, UTC."""
    now = proc.sys.time()
    fmt = "%a %b %e %H:%M:%S UTC %Y"
    args = argv[1:]
    while args:
        arg = args.pop(0)
        if arg.startswith("+"):
            fmt = arg[1:]
        elif arg in ("-d", "--date") and args:
            given = args.pop(0)
            if not given.startswith("@"):
                proc.err(f"date: invalid date '{given}'\n")
                return 1
            now = int(given[1:]) * SEC
        elif arg.startswith("-I"):
            fmt = "%Y-%m-%d" if arg in ("-I", "-Idate") else "%Y-%m-%dT%H:%M:%S+00:00"
        elif arg in ("-R", "--rfc-email"):
            fmt = "%a, %d %b %Y %H:%M:%S +0000"
    proc.out(format_time(now, fmt) + "\n")
    return 0


def format_time(ns: int, fmt: str) -> str:
    """strftime in UTC, with GNU date's %N, %s and %3N."""
    fmt = re.sub(r"%(\d?)N", lambda m: f"{ns % SEC:09d}"[: int(m[1] or 9)], fmt)
    fmt = fmt.replace("%s", str(ns // SEC)).replace("%Z", "UTC").replace("%z", "+0000")
    return datetime.fromtimestamp(ns // SEC, UTC).strftime(fmt)


@tool("hostname")
def hostname(proc: Process, argv: list[str]) -> int:
    """hostname [-i|-I|-f|-d|-s]"""
    if len(argv) > 1 and argv[1] in ("-i", "-I", "--ip-address", "--all-ip-addresses"):
        from kubenet.userland.netview import addresses
        from kubenet.wire.addr import ip4_text

        found = [ip4_text(a.addr) for d in proc.net.devs.values() if d.kind != "loopback" for a in addresses(d)]
        proc.out(" ".join(found) + (" " if argv[1] == "-I" else "") + "\n")
        return 0
    name = proc.container.hostname
    if {"-f", "--fqdn", "--long", "-d", "--domain"} & {*argv[1:]}:
        return _fqdn(proc, name, "-d" in argv or "--domain" in argv)
    proc.out((name.partition(".")[0] if "-s" in argv else name) + "\n")
    return 0


def _fqdn(proc: Process, name: str, domain: bool) -> int:
    """The canonical name that the resolver has for the host's name, or what is behind its first dot. hostname(1): hostname.c."""
    from kubenet.userland.resolver import ResolveError, lookup

    try:
        canonical = lookup(proc, name)[1]
    except ResolveError as error:
        proc.err(f"hostname: {error}\n")
        return 1
    proc.out((canonical.partition(".")[2] if domain else canonical) + "\n")
    return 0


@tool("uname", "arch")
def uname(proc: Process, argv: list[str]) -> int:
    """uname [-asnrvmo]"""
    flags = "".join(arg[1:] for arg in argv[1:] if arg.startswith("-")) or ("m" if argv[0].endswith("arch") else "s")
    parts = {"s": "Linux", "n": proc.container.hostname, "r": proc.container.host.kernel_release, "v": "#1 SMP PREEMPT_DYNAMIC",
             "m": "x86_64", "o": "GNU/Linux"}
    wanted = "snrvmo" if "a" in flags else [f for f in "snrvmo" if f in flags]
    proc.out(" ".join(parts[f] for f in wanted) + "\n")
    return 0


@tool("env", "printenv")
def env(proc: Process, argv: list[str]) -> int:
    """env [-i] [-u NAME] [NAME=VALUE ...] [command ...], printenv [NAME ...]"""
    if argv[0].endswith("printenv") and len(argv) > 1:
        missing = [name for name in argv[1:] if name not in proc.env]
        proc.out("".join(proc.env[name] + "\n" for name in argv[1:] if name in proc.env))
        return 1 if missing else 0
    args, table = argv[1:], dict(proc.env)
    while args and (args[0].startswith("-") or "=" in args[0]):
        arg = args.pop(0)
        if arg in ("-i", "-"):
            table = {}
        elif arg == "-u" and args:
            table.pop(args.pop(0), None)
        elif "=" in arg:
            name, _, value = arg.partition("=")
            table[name] = value
    if not args:
        proc.out("".join(f"{name}={value}\n" for name, value in table.items()))
        return 0
    return run_program(proc, "env", args, table)


def run_program(proc: Process, who: str, argv: list[str], env: dict[str, str]) -> int:
    """Become another program: execvp(3)."""
    try:
        main, real = proc.container.resolve(argv, env, proc.cwd)
    except OSError as error:
        words = "No such file or directory" if error.errno == 2 else "Permission denied"
        proc.err(f"{who}: '{argv[0]}': {words}\n" if who != "timeout" else
                 f"timeout: failed to run command '{argv[0]}': {words}\n")
        return 127 if error.errno == 2 else 126
    proc.argv, proc.env = real, env
    return main(proc, real) or 0


@tool("timeout")
def timeout(proc: Process, argv: list[str]) -> int:
    """timeout [-s SIGNAL] [-k TIME] DURATION command ...; 124 when it ran out."""
    args, number, kill_after = argv[1:], 15, 0
    while args and args[0].startswith("-"):
        flag = args.pop(0)
        if flag in ("-s", "-k", "-t") and args:
            value = args.pop(0)
            if flag == "-s":
                number = signal_number(value) or 15
            elif flag == "-k":
                kill_after = seconds(value)
            else:
                args.insert(0, value)
    if len(args) < 2:
        proc.err("timeout: missing operand\nTry 'timeout --help' for more information.\n")
        return 125
    try:
        limit = seconds(args[0])
    except ValueError:
        proc.err(f"timeout: invalid time interval '{args[0]}'\n")
        return 125
    try:
        pid = proc.sys.spawn(args[1:], {fd: fd for fd in proc.fds.files}, proc.env, proc.cwd)
    except OSError as error:
        proc.err(f"timeout: failed to run command '{args[1]}': {error.strerror}\n")
        return 127 if error.errno == 2 else 126
    done, code = proc.sys.waitpid(pid, False, limit or None)
    if done:
        return code
    proc.sys.kill(pid, number)
    done, code = proc.sys.waitpid(pid, False, kill_after or None)
    if not done:
        proc.sys.kill(pid, 9)
        proc.sys.waitpid(pid, False, None)
        return 137
    return 124 if number != 9 else 137


def signal_number(text: str) -> int | None:
    """15, TERM and SIGTERM are all 15."""
    if text.isdigit():
        return int(text) if int(text) in SIGNAL_NAMES or text == "0" else None
    return SIGNAL_NUMBERS.get(text.upper().removeprefix("SIG"))


@tool("pwd")
def pwd(proc: Process, argv: list[str]) -> int:
    """pwd"""
    proc.out(proc.cwd + "\n")
    return 0


@tool("id")
def id_(proc: Process, argv: list[str]) -> int:
    """id [-u] [-n]"""
    short = "".join(argv[1:])
    if "u" in short or "g" in short:
        proc.out("root\n" if "n" in short else f"{proc.uid}\n")
    else:
        proc.out("uid=0(root) gid=0(root) groups=0(root)\n")
    return 0


@tool("whoami")
def whoami(proc: Process, argv: list[str]) -> int:
    """whoami"""
    proc.out("root\n")
    return 0


@tool("which")
def which(proc: Process, argv: list[str]) -> int:
    """which NAME ..."""
    status = 0
    for name in argv[1:]:
        try:
            proc.out(proc.container.which(name, proc.env, proc.cwd) + "\n")
        except OSError:
            status = 1
    return status


@tool("basename", "dirname")
def basename(proc: Process, argv: list[str]) -> int:
    """basename PATH [SUFFIX], dirname PATH"""
    if len(argv) < 2:
        proc.err(f"{argv[0]}: missing operand\n")
        return 1
    path = argv[1].rstrip("/") or "/"
    head, slash, tail = path.rpartition("/")
    if argv[0].endswith("dirname"):
        proc.out((head.rstrip("/") or ("/" if slash else ".")) + "\n")
    else:
        if len(argv) > 2 and tail != argv[2]:
            tail = tail.removesuffix(argv[2])
        proc.out((tail or "/") + "\n")
    return 0


@tool("tty")
def tty(proc: Process, argv: list[str]) -> int:
    """tty"""
    file = proc.fds.files.get(0)
    is_tty = file is not None and file.name == "tty"
    proc.out("/dev/pts/0\n" if is_tty else "not a tty\n")
    return 0 if is_tty else 1


def _printer(text: Callable[[Process], str]) -> Callable[[Process, list[str]], int]:
    def main(proc: Process, argv: list[str]) -> int:
        proc.out(text(proc))
        return 0

    return main


def _uptime(proc: Process) -> str:
    up = proc.container.loop.now // SEC
    days, hours, minutes = up // 86400, up // 3600 % 24, up // 60 % 60
    spent = (f"{days} day{'s' if days != 1 else ''}, " if days else "") + (f"{hours}:{minutes:02d}" if hours else f"{minutes} min")
    clock = format_time(proc.sys.time(), "%H:%M:%S")
    return f" {clock} up {spent},  0 user,  load average: 0.00, 0.00, 0.00\n"


def _free(proc: Process) -> str:
    total = proc.container.host.memory >> 10
    return ("               total        used        free      shared  buff/cache   available\n"
            f"Mem:     {total:11d} {0:11d} {total:11d} {0:11d} {0:11d} {total:11d}\n"
            f"Swap:    {0:11d} {0:11d} {0:11d}\n")


tool("nproc")(_printer(lambda proc: f"{proc.container.host.cpus}\n"))
tool("uptime")(_printer(_uptime))
tool("free")(_printer(_free))
tool("clear")(_printer(lambda proc: "\x1b[H\x1b[2J"))
