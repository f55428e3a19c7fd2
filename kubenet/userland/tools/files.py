"""Commands on files and streams: cat, ls, head, tail, wc, sort, uniq, cut, tr, grep, find, xargs, sed, awk's print ...

The flags that people type; output as GNU's. `tail -f` waits for what is appended. Source: POSIX.1-2017 XCU 4.
Leaves out: locales, most long options; awk and sed are the subsets that labs use (see their functions).
"""

from __future__ import annotations

import base64 as b64
import errno
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator

from kubenet.units import SEC
from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import format_time, seconds
from kubenet.userland.vfs import O_CREAT, O_TRUNC, O_WRONLY, Dir, Node, Symlink


def options(argv: list[str], with_value: str = "") -> tuple[dict[str, str], list[str]]:
    """({letter: value or ""}, operands); letters in `with_value` take an argument; --name[=value] is kept whole."""
    found: dict[str, str] = {}
    operands: list[str] = []
    args = argv[1:]
    while args:
        arg = args.pop(0)
        if arg == "--":
            operands += args
            break
        if arg.startswith("--"):
            name, _, value = arg[2:].partition("=")
            found[name] = value
        elif arg.startswith("-") and len(arg) > 1:
            for at, letter in enumerate(arg[1:], 1):
                if letter in with_value:
                    found[letter] = arg[at + 1 :] or (args.pop(0) if args else "")
                    break
                found[letter] = ""
        else:
            operands.append(arg)
    return found, operands


def complain(proc: Process, argv: list[str], what: str, error: OSError) -> None:
    """tool: FILE: No such file or directory."""
    proc.err(f"{argv[0].rpartition('/')[2]}: {what}: {error.strerror}\n")


def inputs(proc: Process, argv: list[str], names: list[str], failed: list[int]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each operand, standard input for none or "-"; a missing one is reported and counted in `failed`."""
    for name in names or ["-"]:
        try:
            yield name, proc.read_stdin() if name == "-" else proc.read_file(name)
        except OSError as error:
            complain(proc, argv, name, error)
            failed.append(1)


def lines_of(data: bytes) -> list[str]:
    """Lines without their ends."""
    text = data.decode("utf-8", "surrogateescape")
    return text[:-1].split("\n") if text.endswith("\n") else text.split("\n") if text else []


@tool("cat")
def cat(proc: Process, argv: list[str]) -> int:
    """cat [-n] [FILE ...]: as it arrives."""
    flags, names = options(argv)
    status, number = 0, 0
    for name in names or ["-"]:
        try:
            fd = 0 if name == "-" else proc.sys.open(name)
            while chunk := proc.sys.read(fd, 65536):
                if "n" in flags:
                    for line in lines_of(chunk):
                        number += 1
                        proc.out(f"{number:6d}\t{line}\n")
                else:
                    proc.out(chunk)
            if fd:
                proc.sys.close(fd)
        except OSError as error:
            complain(proc, argv, name, error)
            status = 1
    return status


def mode_text(mode: int) -> str:
    """-rw-r--r--"""
    import stat

    return stat.filemode(mode)


@tool("ls")
def ls(proc: Process, argv: list[str]) -> int:
    """ls [-laAd1hRt] [FILE ...]"""
    flags, names = options(argv)
    status = 0
    files: list[tuple[str, Node]] = []
    folders: list[tuple[str, Dir]] = []
    for name in names or ["."]:
        try:
            node = proc.vfs.lookup(name, proc.cwd, follow="l" not in flags)
            if isinstance(node, Symlink) and name.endswith("/"):
                node = proc.vfs.lookup(name, proc.cwd)
        except OSError as error:
            proc.err(f"ls: cannot access '{name}': {error.strerror}\n")
            status = 2
            continue
        if isinstance(node, Dir) and "d" not in flags:
            folders.append((name, node))
        else:
            files.append((name, node))
    proc.out(_listing(proc, files, flags))
    for at, (name, folder) in enumerate(folders):
        if len(names) > 1 or "R" in flags:
            proc.out(("\n" if at or files else "") + f"{name}:\n")
        entries = [(n, folder.get(n)) for n in folder.names() if not n.startswith(".") or "a" in flags or "A" in flags]
        rows = [(n, node) for n, node in entries if node is not None]
        if "a" in flags:
            rows = [(".", folder), ("..", folder), *rows]
        if "l" in flags:
            proc.out(f"total {sum(-(-node.size() // 4096) * 4 for _, node in rows)}\n")
        proc.out(_listing(proc, rows, flags))
        if "R" in flags:
            folders[at + 1 : at + 1] = [(f"{name}/{n}", d) for n, d in rows if isinstance(d, Dir) and n not in (".", "..")]
    return status


def _listing(proc: Process, rows: list[tuple[str, Node]], flags: dict[str, str]) -> str:
    if "t" in flags:
        rows = sorted(rows, key=lambda row: -row[1].mtime)
    if "r" in flags:
        rows = rows[::-1]
    if "l" not in flags:
        stdout = proc.fds.files.get(1)
        if stdout is not None and stdout.name == "tty" and "1" not in flags:
            return "  ".join(name for name, _ in rows) + ("\n" if rows else "")
        return "".join(name + "\n" for name, _ in rows)
    width = max((len(str(node.size())) for _, node in rows), default=1)
    out = []
    for name, node in rows:
        when = format_time(node.mtime or proc.container.epoch, "%b %e %H:%M")
        arrow = f" -> {node.target}" if isinstance(node, Symlink) else ""
        out.append(f"{mode_text(node.mode)} {2 if isinstance(node, Dir) else 1} root root {node.size():{width}d} {when} {name}{arrow}\n")
    return "".join(out)


@tool("head")
def head(proc: Process, argv: list[str]) -> int:
    """head [-n N | -N | -c N] [FILE ...]: stops reading when it has enough."""
    argv = [f"-n{a[1:]}" if re.fullmatch(r"-\d+", a) else a for a in argv]
    flags, names = options(argv, "nc")
    status = 0
    for name in names or ["-"]:
        try:
            fd = 0 if name == "-" else proc.sys.open(name)
        except OSError as error:
            proc.err(f"head: cannot open '{name}' for reading: {error.strerror}\n")
            status = 1
            continue
        if len(names) > 1:
            proc.out(f"{'' if name == names[0] else chr(10)}==> {name} <==\n")
        left = int(flags.get("c") or flags.get("n") or 10)
        if left < 0:
            lines = lines_of(proc.sys.read_all(fd))[:left]
            proc.out("".join(line + "\n" for line in lines))
            continue
        while left > 0 and (chunk := proc.sys.read(fd, 65536)):
            if "c" in flags:
                part = chunk[:left]
                left -= len(part)
            else:
                kept = chunk.split(b"\n")[: left + 1]
                part = b"\n".join(kept[:left] + ([b""] if len(kept) > left else kept[left:]))
                left -= part.count(b"\n")
            proc.out(part)
        if fd:
            proc.sys.close(fd)
    return status


@tool("tail")
def tail(proc: Process, argv: list[str]) -> int:
    """tail [-n N | -N | -n +N | -c N] [-f] [FILE ...]"""
    argv = [f"-n{a[1:]}" if re.fullmatch(r"-\d+", a) else a for a in argv]
    flags, names = options(argv, "nc")
    failed: list[int] = []
    sizes = {}
    for name, data in inputs(proc, argv, names, failed):
        if len(names) > 1:
            proc.out(f"==> {name} <==\n")
        count = flags.get("c") or flags.get("n") or "10"
        if "c" in flags:
            proc.out(data[-int(count) :] if count[0] != "+" else data[int(count) - 1 :])
        else:
            lines = data.splitlines(keepends=True)
            number = int(count)
            proc.out(b"".join(lines[number - 1 :] if count[0] == "+" else lines[-abs(number) :] if number else []))
        sizes[name] = len(data)
    while "f" in flags or "F" in flags:
        proc.sys.sleep(SEC)
        for name, seen in sizes.items():
            if name != "-":
                data = proc.read_file(name)
                proc.out(data[seen:])
                sizes[name] = len(data)
    return 1 if failed else 0


@tool("wc")
def wc(proc: Process, argv: list[str]) -> int:
    """wc [-lwcm] [FILE ...]"""
    flags, names = options(argv)
    wanted = [f for f in "lwcm" if f in flags] or ["l", "w", "c"]
    failed: list[int] = []
    rows = []
    for name, data in inputs(proc, argv, names, failed):
        counts = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data), "m": len(data.decode(errors="replace"))}
        rows.append(([counts[f] for f in wanted], name))
    if len(rows) > 1:
        rows.append(([sum(r[0][i] for r in rows) for i in range(len(wanted))], "total"))
    single = len(wanted) == 1 and len(rows) == 1
    width = 1 if single else max([len(str(n)) for r in rows for n in r[0]] + ([7] if not names else [1]))
    for numbers, name in rows:
        proc.out(" ".join(f"{n:{width}d}" for n in numbers) + ("" if not names else f" {name}") + "\n")
    return 1 if failed else 0


@tool("sort")
def sort(proc: Process, argv: list[str]) -> int:
    """sort [-nrufhV] [-k N[,M]] [-t SEP] [FILE ...]"""
    flags, names = options(argv, "ktoS")
    failed: list[int] = []
    lines = [line for _, data in inputs(proc, argv, names, failed) for line in lines_of(data)]
    separator = flags.get("t") or None
    spec = re.match(r"(\d+)(?:[.\d]*)([nrf]*)(?:,(\d+))?", flags.get("k", ""))
    numeric = "n" in flags or bool(spec and "n" in spec[2])

    def key(line: str) -> tuple[object, ...]:
        text = line
        if spec:
            fields = line.split(separator)
            first = int(spec[1]) - 1
            text = (separator or " ").join(fields[first : int(spec[3]) if spec[3] else None])
        if "V" in flags:
            return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", text))
        if "f" in flags:
            text = text.upper()
        if numeric:
            found = re.match(r"\s*-?\d*\.?\d+", text)
            return (float(found[0]) if found else 0.0, line)
        return (text, line)

    lines.sort(key=key, reverse="r" in flags or bool(spec and "r" in spec[2]))
    if "u" in flags:
        lines = list({(key(line)[0] if numeric else line): line for line in reversed(lines)}.values())[::-1]
    proc.out("".join(line + "\n" for line in lines))
    return 2 if failed else 0


@tool("uniq")
def uniq(proc: Process, argv: list[str]) -> int:
    """uniq [-cdu] [FILE]"""
    flags, names = options(argv)
    failed: list[int] = []
    groups: list[tuple[str, int]] = []
    for _, data in inputs(proc, argv, names[:1], failed):
        for line in lines_of(data):
            if groups and groups[-1][0] == line:
                groups[-1] = (line, groups[-1][1] + 1)
            else:
                groups.append((line, 1))
    for line, count in groups:
        if ("d" in flags and count == 1) or ("u" in flags and count > 1):
            continue
        proc.out((f"{count:7d} " if "c" in flags else "") + line + "\n")
    return 1 if failed else 0


@tool("cut")
def cut(proc: Process, argv: list[str]) -> int:
    """cut -d SEP -f LIST | -c LIST [FILE ...]"""
    flags, names = options(argv, "dfcb")
    failed: list[int] = []
    ranges = [(int(a or 1), int(b) if b else None if dash else int(a)) for a, dash, b in
              (part.partition("-") for part in (flags.get("f") or flags.get("c") or flags.get("b") or "1").split(","))]

    def picked(items: list[str]) -> list[str]:
        return [item for n, item in enumerate(items, 1) if any(a <= n and (b is None or n <= b) for a, b in ranges)]

    separator = flags.get("d", "\t")
    for _, data in inputs(proc, argv, names, failed):
        for line in lines_of(data):
            if "f" not in flags:
                line = "".join(picked(list(line)))
            elif separator in line:
                line = separator.join(picked(line.split(separator)))
            elif "s" in flags:
                continue
            proc.out(line + "\n")
    return 1 if failed else 0


def _tr_set(text: str) -> str:
    from kubenet.userland.shell_parse import unescape

    for name, chars in (("[:upper:]", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), ("[:lower:]", "abcdefghijklmnopqrstuvwxyz"),
                        ("[:digit:]", "0123456789"), ("[:space:]", " \t\n\r\v\f"), ("[:blank:]", " \t")):
        text = text.replace(name, chars)
    text = unescape(text)
    return re.sub(r"(.)-(.)", lambda m: "".join(chr(c) for c in range(ord(m[1]), ord(m[2]) + 1)), text, flags=re.DOTALL)


@tool("tr")
def tr(proc: Process, argv: list[str]) -> int:
    """tr [-dcs] SET1 [SET2]"""
    flags, sets = options(argv)
    if not sets:
        proc.err("tr: missing operand\n")
        return 1
    first = _tr_set(sets[0])
    second = _tr_set(sets[1]) if len(sets) > 1 else ""
    text = proc.read_stdin().decode("utf-8", "surrogateescape")
    inside: Callable[[str], bool] = (lambda c: c not in first) if "c" in flags or "C" in flags else (lambda c: c in first)
    squeeze = second if second else first
    if "d" in flags:
        text = "".join(c for c in text if not inside(c))
    elif second:
        table = {c: second[min(first.rindex(c), len(second) - 1)] for c in first}
        text = "".join((table.get(c, second[-1]) if inside(c) else c) for c in text)
    if "s" in flags:
        text = "".join(c for at, c in enumerate(text) if not (at and c == text[at - 1] and (c in squeeze or (not second and inside(c)))))
    proc.out(text)
    return 0


def regex_of(pattern: str, extended: bool, fixed: bool, ignore_case: bool) -> re.Pattern[str]:
    """A POSIX basic, extended or fixed pattern as a Python one."""
    if fixed:
        source = "|".join(re.escape(p) for p in pattern.split("\n"))
    else:
        source = pattern
        if not extended:  # basic: \( \) \{ \} \| \+ \? are operators, the bare characters are not
            source = re.sub(r"\\[(){}|+?]|[(){}|+?]", lambda m: m[0][1] if len(m[0]) == 2 else "\\" + m[0], source)
        for name, chars in (("[:digit:]", "0-9"), ("[:alpha:]", "a-zA-Z"), ("[:alnum:]", "a-zA-Z0-9"), ("[:space:]", r"\s"),
                            ("[:upper:]", "A-Z"), ("[:lower:]", "a-z"), ("[:xdigit:]", "0-9a-fA-F"), ("[:blank:]", " \t")):
            source = source.replace(name, chars)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # [[ means what it always meant
        return re.compile(source, re.IGNORECASE if ignore_case else 0)


@tool("grep", "egrep", "fgrep")
def grep(proc: Process, argv: list[str]) -> int:
    """grep [-EFivclnoqwxhHrs] [-A N] [-B N] [-C N] [-m N] [-e PATTERN] PATTERN [FILE ...]: line by line, as input arrives."""
    flags, names = options(argv, "ABCme")
    who = argv[0].rpartition("/")[2]
    pattern = flags.get("e") or (names.pop(0) if names else None)
    if pattern is None:
        proc.err("Usage: grep [OPTION]... PATTERNS [FILE]...\nTry 'grep --help' for more information.\n")
        return 2
    try:
        regex = regex_of(pattern, "E" in flags or "P" in flags or who == "egrep", "F" in flags or who == "fgrep", "i" in flags)
        if "w" in flags:
            regex = re.compile(rf"(?<!\w)(?:{regex.pattern})(?!\w)", regex.flags)
        if "x" in flags:
            regex = re.compile(rf"^(?:{regex.pattern})$", regex.flags)
    except re.error as error:
        proc.err(f"grep: {error}\n")
        return 2
    if "r" in flags or "R" in flags:
        names = [path for name in names or ["."] for path, node in walk(proc, name) if not isinstance(node, (Dir, Symlink))]
    return _Grep(proc, flags, regex, len(names) > 1 or "H" in flags or "r" in flags).run(argv, names)


class _Grep:
    """One run of grep over its files."""

    def __init__(self, proc: Process, flags: dict[str, str], regex: re.Pattern[str], with_name: bool) -> None:
        self.proc, self.flags, self.regex = proc, flags, regex
        self.with_name = with_name and "h" not in flags
        both = flags.get("C")
        self.after = int(flags.get("A") or both or 0)
        self.before = int(flags.get("B") or both or 0)
        self.limit = int(flags["m"]) if flags.get("m") else -1

    def run(self, argv: list[str], names: list[str]) -> int:
        found, failed = 0, False
        for name in names or ["-"]:
            try:
                count = self.file(name)
            except OSError as error:
                failed = True
                if "s" not in self.flags:
                    complain(self.proc, argv, name, error)
                continue
            found += count
            if count and "q" in self.flags:
                return 0
            label = "(standard input)" if name == "-" else name
            if "l" in self.flags and count:
                self.proc.out(label + "\n")
            elif "c" in self.flags and "q" not in self.flags:
                self.proc.out((f"{label}:" if self.with_name else "") + f"{count}\n")
        return 2 if failed else 0 if found else 1

    def file(self, name: str) -> int:
        fd = 0 if name == "-" else self.proc.sys.open(name)
        quiet = any(f in self.flags for f in "qlc")
        label = f"{name}:" if self.with_name else ""
        count, pending, shown, recent = 0, 0, 0, list[tuple[int, str]]()
        for number, line in enumerate(read_lines(self.proc, fd), 1):
            hit = bool(self.regex.search(line)) != ("v" in self.flags)
            if hit:
                count += 1
                if "q" in self.flags:
                    break
                if not quiet:
                    if (self.before or self.after) and shown and number - len(recent) > shown + 1:
                        self.proc.out("--\n")
                    for at, text in recent:
                        self.show(label, at, text, "-")
                    recent.clear()
                    self.show(label, number, line, ":")
                    shown, pending = number, self.after
                if count == self.limit:
                    break
            elif pending and not quiet:
                self.show(label, number, line, "-")
                shown, pending = number, pending - 1
            elif self.before:
                recent = [*recent, (number, line)][-self.before :]
        if fd:
            self.proc.sys.close(fd)
        return count

    def show(self, label: str, number: int, line: str, mark: str) -> None:
        head = label.replace(":", mark) + (f"{number}{mark}" if "n" in self.flags else "")
        if "o" in self.flags and mark == ":":
            for found in self.regex.finditer(line):
                if found[0]:
                    self.proc.out(head + found[0] + "\n")
        else:
            self.proc.out(head + line + "\n")


def read_lines(proc: Process, fd: int) -> Iterator[str]:
    """Lines of a descriptor as they arrive."""
    rest = b""
    while chunk := proc.sys.read(fd, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")
    if rest:
        yield rest.decode("utf-8", "surrogateescape")


@tool("tee")
def tee(proc: Process, argv: list[str]) -> int:
    """tee [-a] FILE ..."""
    flags, names = options(argv)
    fds = [proc.sys.open(name, O_WRONLY | O_CREAT | (0o2000 if "a" in flags else O_TRUNC)) for name in names]
    while chunk := proc.sys.read(0, 65536):
        proc.out(chunk)
        for fd in fds:
            proc.sys.write_all(fd, chunk)
    return 0


def _each(what: Callable[[Process, str, dict[str, str]], None]) -> Callable[[Process, list[str]], int]:
    """A command that does one thing to each operand."""

    def main(proc: Process, argv: list[str]) -> int:
        flags, names = options(argv, "m" if argv[0].endswith("mkdir") else "")
        status = 0
        if not names:
            proc.err(f"{argv[0]}: missing operand\n")
            return 1
        for name in names:
            try:
                what(proc, name, flags)
            except OSError as error:
                verb = {"mkdir": "cannot create directory", "rmdir": "failed to remove", "rm": "cannot remove",
                        "touch": "cannot touch"}.get(argv[0].rpartition("/")[2], "")
                proc.err(f"{argv[0].rpartition('/')[2]}: {verb} '{name}': {error.strerror}\n")
                status = 1
        return status

    return main


def _mkdir(proc: Process, name: str, flags: dict[str, str]) -> None:
    if "p" not in flags:
        proc.sys.mkdir(name)
        return
    at = "/" if name.startswith("/") else ""
    for part in name.split("/"):
        at += part + "/"
        if part and not proc.vfs.exists(at, proc.cwd):
            proc.sys.mkdir(at.rstrip("/"))


def _rm(proc: Process, name: str, flags: dict[str, str]) -> None:
    if "f" in flags and not proc.vfs.exists(name, proc.cwd):
        return
    node = proc.vfs.lookup(name, proc.cwd, follow=False)
    if isinstance(node, Dir) and ("r" in flags or "R" in flags):
        for child in node.names():
            _rm(proc, f"{name}/{child}", flags)
        proc.sys.rmdir(name)
    else:
        proc.sys.unlink(name)


def _rmdir(proc: Process, name: str, flags: dict[str, str]) -> None:
    proc.sys.rmdir(name)


def _touch(proc: Process, name: str, flags: dict[str, str]) -> None:
    """touch NAME: made if missing; its time is now. Coreutils: touch.c opens for writing, utimensat(2) dates what cannot be opened."""
    try:
        proc.sys.close(proc.sys.open(name, O_WRONLY | O_CREAT))
    except OSError as error:
        if error.errno != errno.EISDIR:
            raise
    proc.vfs.utime(name, proc.sys.time(), proc.cwd)


tool("mkdir")(_each(_mkdir))
tool("rmdir")(_each(_rmdir))
tool("rm")(_each(_rm))
tool("touch")(_each(_touch))


@tool("cp", "mv", "ln")
def cp(proc: Process, argv: list[str]) -> int:
    """cp [-r] SOURCE ... TARGET, mv SOURCE ... TARGET, ln -s TARGET NAME"""
    flags, names = options(argv)
    who = argv[0].rpartition("/")[2]
    if len(names) < 2:
        proc.err(f"{who}: missing file operand\n")
        return 1
    *sources, target = names
    into = proc.vfs.exists(target, proc.cwd) and isinstance(proc.vfs.lookup(target, proc.cwd), Dir)
    status = 0
    for source in sources:
        place = f"{target}/{source.rstrip('/').rpartition('/')[2]}" if into else target
        try:
            if who == "mv":
                proc.sys.rename(source, place)
            elif who == "ln":
                if "f" in flags and proc.vfs.exists(place, proc.cwd):
                    proc.sys.unlink(place)
                proc.sys.symlink(source, place)
            else:
                _copy(proc, source, place, "r" in flags or "a" in flags or "R" in flags)
        except OSError as error:
            proc.err(f"{who}: cannot stat '{source}': {error.strerror}\n")
            status = 1
    return status


def _copy(proc: Process, source: str, place: str, deep: bool) -> None:
    node = proc.vfs.lookup(source, proc.cwd)
    if isinstance(node, Dir):
        if not deep:
            proc.err(f"cp: -r not specified; omitting directory '{source}'\n")
            return
        if not proc.vfs.exists(place, proc.cwd):
            proc.sys.mkdir(place)
        for child in node.names():
            _copy(proc, f"{source}/{child}", f"{place}/{child}", True)
        return
    data = proc.read_file(source)
    fd = proc.sys.open(place, O_WRONLY | O_CREAT | O_TRUNC, node.mode & 0o777)
    proc.sys.write_all(fd, data)
    proc.sys.close(fd)


@tool("chmod", "chown")
def chmod(proc: Process, argv: list[str]) -> int:
    """chmod OCTAL|+x FILE ..., chown (nothing changes: all is root's)"""
    flags, names = options(argv)
    if argv[0].endswith("chown") or len(names) < 2:
        return 0
    code = 0
    for name in names[1:]:
        try:
            node = proc.vfs.lookup(name, proc.cwd)
        except OSError as error:
            proc.err(f"chmod: cannot access '{name}': {error.strerror}\n")
            code = 1
            continue
        perm = int(names[0], 8) if names[0].isdigit() else node.mode | 0o111 if "x" in names[0] else node.mode
        try:
            proc.sys.chmod(name, perm)
        except OSError as error:
            proc.err(f"chmod: changing permissions of '{name}': {error.strerror}\n")
            code = 1
    return code


@tool("stat")
def stat_(proc: Process, argv: list[str]) -> int:
    """stat FILE ..."""
    for name in argv[1:]:
        try:
            row = proc.sys.stat(name, False)
        except OSError as error:
            proc.err(f"stat: cannot statx '{name}': {error.strerror}\n")
            return 1
        proc.out(f"  File: {name}\n  Size: {row[6]}\n  Inode: {row[1]}\nAccess: ({row[0] & 0o7777:04o}/{mode_text(row[0])})\n")
    return 0


def walk(proc: Process, path: str) -> Iterator[tuple[str, Node]]:
    """(path, node) of everything below a path, itself first."""
    node = proc.vfs.lookup(path, proc.cwd, follow=False)
    yield path, node
    if isinstance(node, Dir):
        for name in node.names():
            yield from walk(proc, f"{path.rstrip('/')}/{name}")


@tool("find")
def find(proc: Process, argv: list[str]) -> int:
    """find [PATH ...] [-name PATTERN] [-type f|d|l] [-maxdepth N]"""
    from fnmatch import fnmatchcase

    args = argv[1:]
    paths = []
    while args and not args[0].startswith("-"):
        paths.append(args.pop(0))
    tests = dict(zip(args[::2], args[1::2], strict=False))
    for top in paths or ["."]:
        try:
            for path, node in walk(proc, top):
                depth = path[len(top.rstrip("/")) :].count("/")
                kind = "d" if isinstance(node, Dir) else "l" if isinstance(node, Symlink) else "f"
                if "-maxdepth" in tests and depth > int(tests["-maxdepth"]):
                    continue
                if "-name" in tests and not fnmatchcase(path.rpartition("/")[2], tests["-name"]):
                    continue
                if tests.get("-type", kind) == kind:
                    proc.out(path + "\n")
        except OSError as error:
            proc.err(f"find: ‘{top}’: {error.strerror}\n")
            return 1
    return 0


@tool("xargs")
def xargs(proc: Process, argv: list[str]) -> int:
    """xargs [-n N] [-I TEXT] [command ...]"""
    args, per, replace = argv[1:], 0, ""
    while args and args[0].startswith("-"):
        flag = args.pop(0)
        if flag[:2] in ("-n", "-I", "-P", "-L"):
            value = flag[2:] or args.pop(0)
            per = int(value) if flag[:2] in ("-n", "-L") else per
            replace = value if flag[:2] == "-I" else replace
    command = args or ["echo"]
    data = proc.read_stdin().decode("utf-8", "surrogateescape")
    items = data.splitlines() if replace else data.split()
    if replace:
        calls = [[word.replace(replace, item) for word in command] for item in items]
    else:
        groups = [items[at : at + per] for at in range(0, len(items), per)] if per else [items]
        calls = [[*command, *group] for group in groups]
    status = 0
    for call in calls:
        try:
            pid = proc.sys.spawn(call, {fd: fd for fd in proc.fds.files}, proc.env, proc.cwd)
        except OSError as error:
            proc.err(f"xargs: {call[0]}: {error.strerror}\n")
            return 127
        if proc.sys.waitpid(pid, False, None)[1]:
            status = 123
    return status


@tool("readlink", "realpath")
def readlink(proc: Process, argv: list[str]) -> int:
    """readlink [-f] PATH, realpath PATH"""
    flags, names = options(argv)
    for name in names:
        try:
            full = "f" in flags or argv[0].endswith("realpath")
            proc.out((proc.vfs.realpath(name, proc.cwd) if full else proc.sys.readlink(name)) + "\n")
        except OSError:
            return 1
    return 0


@tool("mount", "df", "du")
def mount(proc: Process, argv: list[str]) -> int:
    """mount, df, du: what there is to see of a container's file systems."""
    from kubenet.userland.procfs import mounts_text

    rows = [line.split() for line in mounts_text(proc.container).splitlines()]
    if argv[0].endswith("mount"):
        proc.out("".join(f"{r[0]} on {r[1]} type {r[2]} ({r[3]})\n" for r in rows))
    elif argv[0].endswith("df"):
        proc.out("Filesystem     1K-blocks    Used Available Use% Mounted on\n")
        proc.out("".join(f"{r[0]:<14} {65536:9d} {0:7d} {65536:9d}   0% {r[1]}\n" for r in rows if r[2] in ("overlay", "tmpfs")))
    else:
        _, names = options(argv)
        for name in names or ["."]:
            proc.out(f"{sum(-(-n.size() // 1024) for _, n in walk(proc, name))}\t{name}\n")
    return 0


@tool("base64", "md5sum", "sha256sum", "rev", "tac", "nl", "od", "hexdump", "xxd")
def filters(proc: Process, argv: list[str]) -> int:
    """Small filters."""
    who = argv[0].rpartition("/")[2]
    flags, names = options(argv, "wnAt" if who != "base64" else "w")
    failed: list[int] = []
    for name, data in inputs(proc, argv, names, failed):
        if who == "base64":
            if "d" in flags:
                proc.out(b64.b64decode(data))
            else:
                text = b64.b64encode(data).decode()
                width = int(flags.get("w") or 76) if flags.get("w") != "0" else len(text) or 1
                proc.out("".join(text[at : at + width] + "\n" for at in range(0, len(text), width)))
        elif who in ("md5sum", "sha256sum"):
            digest = hashlib.new("md5" if who == "md5sum" else "sha256", data).hexdigest()
            proc.out(f"{digest}  {name}\n")
        elif who in ("od", "hexdump", "xxd"):
            for at in range(0, len(data), 16):
                row = data[at : at + 16]
                pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
                proc.out(f"{at:08x}: {pairs:<39}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}\n")
        else:
            lines = lines_of(data)
            if who == "tac":
                lines.reverse()
            elif who == "rev":
                lines = [line[::-1] for line in lines]
            else:
                lines = [f"{n:6d}\t{line}" for n, line in enumerate(lines, 1)]
            proc.out("".join(line + "\n" for line in lines))
    return 1 if failed else 0


@tool("diff")
def diff(proc: Process, argv: list[str]) -> int:
    """diff [-u] A B"""
    import difflib

    flags, names = options(argv)
    try:
        a, b = (lines_of(proc.read_file(name)) for name in names[:2])
    except OSError as error:
        complain(proc, argv, names[0], error)
        return 2
    if a == b:
        return 0
    if "u" in flags:
        proc.out("".join(line.rstrip("\n") + "\n" for line in difflib.unified_diff(a, b, names[0], names[1], lineterm="")))
        return 1
    for kind, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind != "equal":
            left = f"{a1 + 1},{a2}" if a2 - a1 > 1 else f"{a1 + 1 if a2 > a1 else a1}"
            right = f"{b1 + 1},{b2}" if b2 - b1 > 1 else f"{b1 + 1 if b2 > b1 else b1}"
            proc.out(left + {"replace": "c", "delete": "d", "insert": "a"}[kind] + right + "\n")
            proc.out("".join(f"< {line}\n" for line in a[a1:a2]) + ("---\n" if kind == "replace" else "") +
                     "".join(f"> {line}\n" for line in b[b1:b2]))
    return 1


@tool("mktemp")
def mktemp(proc: Process, argv: list[str]) -> int:
    """mktemp [-d]"""
    path = f"/tmp/tmp.{proc.random.bits64():016x}"[:19]
    if "-d" in argv:
        proc.sys.mkdir(path)
    else:
        proc.sys.close(proc.sys.open(path, O_WRONLY | O_CREAT, 0o600))
    proc.out(path + "\n")
    return 0


@tool("less", "more")
def less(proc: Process, argv: list[str]) -> int:
    """less FILE: without a terminal to page on, cat."""
    return int(cat(proc, ["cat", *argv[1:]]))


@tool("watch")
def watch(proc: Process, argv: list[str]) -> int:
    """watch [-n SECONDS] [-t] command ...: again and again."""
    args, every = argv[1:], 2 * SEC
    while args and args[0].startswith("-"):
        flag = args.pop(0)
        if flag.startswith("-n"):
            every = seconds(flag[2:] or args.pop(0))
    while True:
        proc.out("\x1b[H\x1b[2J")
        pid = proc.sys.spawn(["sh", "-c", " ".join(args)], {fd: fd for fd in proc.fds.files}, proc.env, proc.cwd)
        proc.sys.waitpid(pid, False, None)
        proc.sys.sleep(every)

