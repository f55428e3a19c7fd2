"""Expansion of shell words: parameters, command substitution, arithmetic, field splitting, path names, quote removal.

expand_words(shell, words) gives the fields of a command; expand_text(shell, word) one string without splitting (assignments,
redirections, case). Each character of a word carries whether it was quoted, since only unquoted results are split and globbed.

Source: POSIX.1-2017 XCU 2.6; brace expansion as bash, when the shell was started under that name.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

from kubenet.userland.shell_parse import Word

if TYPE_CHECKING:
    from kubenet.userland.shell import Shell

# A field under construction: (character or text, quoted) pieces; None is a field boundary made by "$@".
Piece = tuple[str, bool] | None


class ExpansionError(Exception):
    """${x:?word}, or arithmetic that makes no sense."""


def expand_words(shell: Shell, words: list[Word]) -> list[str]:
    """The fields of a command line."""
    out: list[str] = []
    for word in words:
        for braced in brace_expand(word) if shell.bash else [word]:
            for field in split_fields(shell, pieces(shell, braced)):
                out.extend(path_names(shell, field))
    return out


def expand_text(shell: Shell, word: Word) -> str:
    """One string: no splitting, no path names."""
    return "".join(" " if piece is None else piece[0] for piece in pieces(shell, word, assign=True))


def expand_pattern(shell: Shell, word: Word) -> re.Pattern[str]:
    """A pattern for case and ${x#...}: quoted characters stand for themselves."""
    return re.compile(pattern_regex(pieces(shell, word, assign=True)), re.DOTALL)


def pattern_regex(parts: list[Piece]) -> str:
    """A regular expression for the pieces of a shell pattern."""
    glob = "".join(_escape_glob(p[0]) if p[1] else p[0] for p in parts if p is not None)
    return translate(glob)


def _escape_glob(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def pieces(shell: Shell, word: Word, assign: bool = False) -> list[Piece]:
    """The word with everything replaced, before splitting."""
    out: list[Piece] = []
    for at, part in enumerate(word):
        kind, quoted = part[0], part[-1]
        if kind == "lit":
            text = part[1]
            if at == 0 and not quoted and text.startswith("~"):
                text = _tilde(shell, text)
            out.append((text, quoted or assign))
            if not quoted and assign:
                out[-1] = (text, False)
        elif kind == "cmd":
            out.append((shell.substitute(part[1]).rstrip("\n"), quoted))
        elif kind == "arith":
            text = expand_text(shell, _reparse(part[1]))
            out.append((str(arithmetic(shell, text)), quoted))
        else:
            out.extend(_parameter(shell, part[1], part[2], part[3], quoted))
    return out


def _reparse(text: str) -> Word:
    from kubenet.userland.shell_parse import Parser

    return Parser(text).double_quoted(None)


def _tilde(shell: Shell, text: str) -> str:
    head, slash, rest = text.partition("/")
    return shell.get("HOME", "/root") + slash + rest if head == "~" else text


def _parameter(shell: Shell, name: str, op: str, word: Word | None, quoted: bool) -> list[Piece]:
    """$name, or ${name op word}."""
    if name in ("@", "*") and not op:
        return _positional(shell, name, quoted)
    value = shell.lookup(name)
    if op == "len":
        return [(str(len(value if value is not None else "")), quoted)]
    if op in (":-", ":=", ":?", ":+", "-", "=", "?", "+"):
        return _default(shell, name, op, word or [], value, quoted)
    text = value or ""
    if op in ("%", "%%", "#", "##"):
        text = _trim(text, op, expand_pattern(shell, word or []))
    elif op in ("/", "//"):
        text = _replace(shell, text, op, word or [])
    elif op == ":":
        text = _substring(shell, text, expand_text(shell, word or []))
    elif value is None and shell.options.get("u"):
        raise ExpansionError(f"{name}: parameter not set")
    return [(text, quoted)]


def _positional(shell: Shell, name: str, quoted: bool) -> list[Piece]:
    if not quoted:
        joined: list[Piece] = []
        for at, arg in enumerate(shell.args):
            joined.extend([None] if at else [])
            joined.append((arg, False))
        return joined
    if name == "*":
        return [(shell.get("IFS", " \t\n")[:1].join(shell.args), True)]
    out: list[Piece] = []
    for at, arg in enumerate(shell.args):
        if at:
            out.append(None)
        out.append((arg, True))
    return out


def _default(shell: Shell, name: str, op: str, word: Word, value: str | None, quoted: bool) -> list[Piece]:
    unset = value is None or (op[0] == ":" and value == "")
    kind = op[-1]
    if kind == "+":
        return [] if unset else pieces(shell, word) or [("", quoted)]
    if not unset:
        return [(value or "", quoted)]
    if kind == "-":
        found = pieces(shell, word)
        return [None if p is None else (p[0], p[1] or quoted) for p in found]
    text = expand_text(shell, word)
    if kind == "=":
        shell.set(name, text)
        return [(text, quoted)]
    raise ExpansionError(f"{name}: {text or 'parameter not set or null'}")


def _trim(text: str, op: str, pattern: re.Pattern[str]) -> str:
    """${x#p} ${x##p} ${x%p} ${x%%p}: the smallest or largest prefix or suffix that matches goes."""
    lengths = range(len(text) + 1)
    for n in reversed(lengths) if len(op) == 2 else lengths:
        part, rest = (text[:n], text[n:]) if op[0] == "#" else (text[len(text) - n :], text[: len(text) - n])
        if pattern.fullmatch(part):
            return rest
    return text


def _replace(shell: Shell, text: str, op: str, word: Word) -> str:
    """${x/pattern/string} and ${x//pattern/string} of bash and ash."""
    flat = pieces(shell, word, assign=True)
    joined = "".join(p[0] for p in flat if p is not None)
    pattern, _, with_ = joined.partition("/")
    regex = translate(pattern).removesuffix(r"\Z")
    return re.sub(regex.replace(".*", ".*"), lambda _: with_, text, count=0 if op == "//" else 1)


def _substring(shell: Shell, text: str, spec: str) -> str:
    """${x:offset:length}."""
    first, _, second = spec.partition(":")
    offset = arithmetic(shell, first)
    if offset < 0:
        offset = max(len(text) + offset, 0)
    if not second:
        return text[offset:]
    length = arithmetic(shell, second)
    return text[offset : offset + length] if length >= 0 else text[offset:length]


def split_fields(shell: Shell, parts: list[Piece]) -> list[list[tuple[str, bool]]]:
    """Pieces -> fields; unquoted results split at IFS."""
    ifs = shell.get("IFS", " \t\n")
    white = "".join(c for c in ifs if c in " \t\n")
    fields: list[list[tuple[str, bool]]] = []
    field: list[tuple[str, bool]] = []
    started = False

    def end() -> None:
        nonlocal field, started
        if started:
            fields.append(field)
        field, started = [], False

    for piece in parts:
        if piece is None:
            started = True
            end()
            started = True
            continue
        text, quoted = piece
        if quoted:
            field.append(piece)
            started = True
            continue
        for c in text:
            if c in white:
                end()
            elif c in ifs:
                started = True
                end()
            else:
                field.append((c, False))
                started = True
    if parts and parts[-1] is None:
        started = True
    end()
    return fields


def path_names(shell: Shell, field: list[tuple[str, bool]]) -> list[str]:
    """The field, or the paths that it matches as a pattern."""
    text = "".join(p[0] for p in field)
    if shell.options.get("f") or not any(not quoted and c in "*?[" for t, quoted in field for c in t):
        return [text]
    pattern = "".join(_escape_glob(t) if quoted else t for t, quoted in field)
    return shell.proc.vfs.glob(pattern, shell.proc.cwd) or [text]


def brace_expand(word: Word) -> list[Word]:
    """{a,b} and {1..5} in unquoted text, as bash does before everything else."""
    for at, part in enumerate(word):
        if part[0] != "lit" or part[-1]:
            continue
        found = re.search(r"\{([^{}]*,[^{}]*|-?\d+\.\.-?\d+(?:\.\.-?\d+)?|[a-zA-Z]\.\.[a-zA-Z])\}", part[1])
        if found is None:
            continue
        out: list[Word] = []
        for item in _brace_items(found[1]):
            text = part[1][: found.start()] + item + part[1][found.end() :]
            out.extend(brace_expand([*word[:at], ("lit", text, False), *word[at + 1 :]]))
        return out
    return [word]


def _brace_items(text: str) -> list[str]:
    if "," in text:
        return text.split(",")
    first, last, *step = text.split("..")
    if first.lstrip("-").isdigit():
        a, b = int(first), int(last)
        by = abs(int(step[0])) if step else 1
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        return [str(n).zfill(width) for n in range(a, b + (1 if b >= a else -1), (by or 1) * (1 if b >= a else -1))]
    a, b = ord(first), ord(last)
    return [chr(n) for n in range(a, b + (1 if b >= a else -1), 1 if b >= a else -1)]


# ---- arithmetic -----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(0[xX][0-9a-fA-F]+|\d+|[A-Za-z_]\w*|<<=|>>=|\*\*|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|[-+*/%&|^]=|.)")
_LEVELS: list[tuple[str, ...]] = [
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
]


def arithmetic(shell: Shell, text: str) -> int:
    """The value of $((text)); 64-bit integers, C's operators, variables by name. Raises ExpansionError."""
    tokens = [token for token in _TOKEN.findall(text) if token.strip()]
    value = _Arith(shell, tokens).whole()
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


class _Arith:
    """A recursive descent over the tokens of one expression."""

    def __init__(self, shell: Shell, tokens: list[str]) -> None:
        self.shell = shell
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def whole(self) -> int:
        if not self.tokens:
            return 0
        value = self.comma()
        if self.at < len(self.tokens):
            raise ExpansionError(f"arithmetic expression: expecting EOF: \"{' '.join(self.tokens)}\"")
        return value

    def comma(self) -> int:
        value = self.assign()
        while self.peek() == ",":
            self.next()
            value = self.assign()
        return value

    def assign(self) -> int:
        name = self.peek()
        op = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else ""
        if name and (name[0].isalpha() or name[0] == "_") and (op == "=" or (op.endswith("=") and op not in ("==", "!=", "<=", ">="))):
            self.at += 2
            value = self.assign()
            if op != "=":
                value = _apply(op[:-1], self.variable(name), value)
            self.shell.set(name, str(value))
            return value
        return self.ternary()

    def ternary(self) -> int:
        value = self.binary(0)
        if self.peek() == "?":
            self.next()
            yes = self.assign()
            if self.next() != ":":
                raise ExpansionError("arithmetic expression: expecting ':'")
            no = self.assign()
            return yes if value else no
        return value

    def binary(self, level: int) -> int:
        if level == len(_LEVELS):
            return self.power()
        value = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            op = self.next()
            value = _apply(op, value, self.binary(level + 1))
        return value

    def power(self) -> int:
        value = self.unary()
        if self.peek() == "**":
            self.next()
            return int(value ** max(self.power(), 0))
        return value

    def unary(self) -> int:
        token = self.next()
        if token == "(":
            value = self.comma()
            if self.next() != ")":
                raise ExpansionError("arithmetic expression: expecting ')'")
            return value
        if token in ("-", "+", "!", "~"):
            value = self.unary()
            return {"-": -value, "+": value, "!": int(not value), "~": ~value}[token]
        if token in ("++", "--"):
            name = self.next()
            value = self.variable(name) + (1 if token == "++" else -1)
            self.shell.set(name, str(value))
            return value
        if token[:1].isdigit():
            return _number(token)
        if token[:1].isalpha() or token[:1] == "_":
            value = self.variable(token)
            if self.peek() in ("++", "--"):
                self.shell.set(token, str(value + (1 if self.next() == "++" else -1)))
            return value
        raise ExpansionError("arithmetic expression: expecting primary: " + f'"{" ".join(self.tokens)}"')

    def variable(self, name: str) -> int:
        text = self.shell.get(name, "").strip()
        if not text:
            return 0
        try:
            return _number(text)
        except ValueError:
            raise ExpansionError(f"Illegal number: {text}") from None


def _number(text: str) -> int:
    if len(text) > 1 and text[0] == "0" and text[1:].isdigit():
        return int(text, 8)
    return int(text, 0)


def _apply(op: str, a: int, b: int) -> int:
    if op in ("/", "%"):
        if b == 0:
            raise ExpansionError("arithmetic expression: division by zero")
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return quotient if op == "/" else a - b * quotient
    result: int = {
        "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "<<": lambda: a << (b & 63), ">>": lambda: a >> (b & 63),
        "<": lambda: int(a < b), "<=": lambda: int(a <= b), ">": lambda: int(a > b), ">=": lambda: int(a >= b),
        "==": lambda: int(a == b), "!=": lambda: int(a != b), "&": lambda: a & b, "|": lambda: a | b, "^": lambda: a ^ b,
        "&&": lambda: int(bool(a and b)), "||": lambda: int(bool(a or b)),
    }[op]()
    return result
