"""sed: the subset that scripts use.

Commands s p d q = y-less, addresses N, $, /re/, ranges; -n, -E/-r, -i, -e. Source: POSIX.1-2017 sed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.files import inputs, lines_of, options, regex_of

Address = int | str | re.Pattern[str] | None


@dataclass
class Command:
    """[first[,last]][!]name with its arguments."""

    first: Address
    last: Address
    negate: bool
    name: str
    regex: re.Pattern[str] | None = None
    replacement: str = ""
    flags: str = ""
    active: bool = False


class SedError(Exception):
    """The script is not one."""


def parse_script(text: str, extended: bool) -> list[Command]:
    """A script's commands. Raises SedError."""
    out: list[Command] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t;\n":
            at += 1
        if at >= len(text):
            return out
        first, at = _address(text, at, extended)
        last: Address = None
        if text[at : at + 1] == ",":
            last, at = _address(text, at + 1, extended)
        negate = text[at : at + 1] == "!"
        at += negate
        while text[at : at + 1] == " ":
            at += 1
        name = text[at : at + 1]
        at += 1
        if name == "s":
            command, at = _substitute(text, at, extended)
            command.first, command.last, command.negate = first, last, negate
            out.append(command)
        elif name and name in "pdq=":
            out.append(Command(first, last, negate, name))
        else:
            raise SedError(f"-e expression #1, char {at}: unknown command: `{name}'" if name else
                           f"-e expression #1, char {at - 1}: missing command")


def _address(text: str, at: int, extended: bool) -> tuple[Address, int]:
    found = re.match(r"\d+|\$", text[at:])
    if found:
        return (found[0] if found[0] == "$" else int(found[0])), at + len(found[0])
    if text[at : at + 1] == "/":
        pattern, at = _until(text, at + 1, "/")
        return regex_of(pattern, extended, False, False), at
    return None, at


def _until(text: str, at: int, end: str) -> tuple[str, int]:
    out = []
    while at < len(text) and text[at] != end:
        if text[at] == "\\" and text[at + 1 : at + 2] == end:
            at += 1
            out.append(text[at])
        elif text[at] == "\\":
            out.append(text[at : at + 2])
            at += 1
        else:
            out.append(text[at])
        at += 1
    if at >= len(text):
        raise SedError(f"-e expression #1, char {at}: unterminated `s' command")
    return "".join(out), at + 1


def _substitute(text: str, at: int, extended: bool) -> tuple[Command, int]:
    end = text[at : at + 1]
    pattern, at = _until(text, at + 1, end)
    replacement, at = _until(text, at, end)
    flags = re.match(r"[gpIi\d]*", text[at:])
    letters = flags[0] if flags else ""
    regex = regex_of(pattern, extended, False, "I" in letters or "i" in letters)
    return Command(None, None, False, "s", regex, replacement, letters), at + len(letters)


def _matches(command: Command, number: int, last_line: bool, line: str) -> bool:
    def one(address: Address) -> bool:
        if isinstance(address, int):
            return number == address
        return last_line if isinstance(address, str) else bool(address is not None and address.search(line))

    if command.first is None:
        hit = True
    elif command.last is None:
        hit = one(command.first)
    elif command.active:
        hit = True
        command.active = not (one(command.last) or (isinstance(command.last, int) and number >= command.last))
    else:
        hit = one(command.first)
        command.active = hit and not (isinstance(command.last, int) and number >= command.last)
    return hit != command.negate


def _expand(found: re.Match[str], text: str) -> str:
    def one(m: re.Match[str]) -> str:
        if m[0] == "&":
            return found[0]
        c = m[0][1]
        return (found[int(c)] or "") if c.isdigit() else {"n": "\n", "t": "\t"}.get(c, c)

    return re.sub(r"\\.|&", one, text)


@tool("sed")
def sed(proc: Process, argv: list[str]) -> int:
    """sed [-nEi] SCRIPT [FILE ...]"""
    flags, names = options(argv, "e")
    script = flags.get("e") or (names.pop(0) if names else "")
    extended = "E" in flags or "r" in flags
    try:
        commands = parse_script(script, extended)
    except (SedError, re.error) as error:
        proc.err(f"sed: {error}\n")
        return 1
    failed: list[int] = []
    for name, data in inputs(proc, argv, names, failed):
        out = _edit(commands, lines_of(data), "n" in flags)
        if "i" in flags and name != "-":
            proc.vfs.write(name, out, cwd=proc.cwd)
        else:
            proc.out(out)
    return 2 if failed else 0


def _edit(commands: list[Command], lines: list[str], quiet: bool) -> str:
    out: list[str] = []
    for number, original in enumerate(lines, 1):
        line, alive, stop = original, True, False
        for command in commands:
            if not _matches(command, number, number == len(lines), line):
                continue
            if command.name == "d":
                alive = False
                break
            if command.name == "p":
                out.append(line)
            elif command.name == "=":
                out.append(str(number))
            elif command.name == "q":
                stop = True
                break
            elif command.regex is not None:
                replacement = command.replacement
                changed, count = command.regex.subn(lambda m, r=replacement: _expand(m, r), line,
                                                    count=0 if "g" in command.flags else 1)
                line = changed
                if count and "p" in command.flags:
                    out.append(line)
        if alive and not quiet:
            out.append(line)
        if stop:
            break
    return "".join(line + "\n" for line in out)
