"""awk: a subset that covers one-liners: patterns, BEGIN/END, print, printf, if/else, for, while, assignments, arrays, length,
substr, split, index, toupper, tolower, gsub, sub, int, sprintf, $N, NF, NR, FS, OFS.

The program is translated to a small tree by precedence climbing and walked per line. Source: POSIX.1-2017 awk.
Leaves out: user functions, getline, pipes, output to files, regular expression separators beyond FS.
"""

from __future__ import annotations

import re
from typing import Any

from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import printf_text
from kubenet.userland.tools.files import inputs, lines_of

_TOKENS = re.compile(
    r"\s*(?:(#[^\n]*)|(\n|;)|(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|\"((?:[^\"\\]|\\.)*)\"|([A-Za-z_]\w*)"
    r"|(\+\+|--|\+=|-=|\*=|/=|%=|==|!=|<=|>=|&&|\|\||!~|[-+*/%^<>=!~?:,(){}\[\]$]))"
)


class AwkError(Exception):
    """Not an awk program that is understood here."""


def tokenize(text: str) -> list[tuple[str, str]]:
    """(kind, text): num str name op end re."""
    out: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        if text[at:].strip() == "":
            break
        slash = re.match(r"\s*/((?:[^/\\\n]|\\.)*)/", text[at:])
        if slash and (not out or out[-1][0] in ("op", "end") and out[-1][1] not in (")", "]")):
            out.append(("re", slash[1].replace("\\/", "/")))
            at += slash.end()
            continue
        found = _TOKENS.match(text, at)
        if found is None:
            raise AwkError(f"syntax error at source line 1 near {text[at : at + 10]!r}")
        at = found.end()
        _, end, num, string, name, op = found.groups()
        if end:
            out.append(("end", ";"))
        elif num:
            out.append(("num", num))
        elif string is not None:
            from kubenet.userland.shell_parse import unescape

            out.append(("str", unescape(string)))
        elif name:
            out.append(("name", name))
        elif op:
            out.append(("op", op))
    return out


class Parser:
    """Tokens -> [(pattern, body)]."""

    def __init__(self, text: str) -> None:
        self.tokens = tokenize(text)
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("eof", "")

    def next(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def take(self, text: str) -> bool:
        if self.peek() in (("op", text), ("name", text), ("end", text)):
            self.at += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.take(text):
            raise AwkError(f"syntax error at source line 1: expected {text!r}, found {self.peek()[1]!r}")

    def program(self) -> list[tuple[Any, Any]]:
        rules: list[tuple[Any, Any]] = []
        while True:
            while self.take(";"):
                pass
            if self.peek()[0] == "eof":
                return rules
            pattern: Any = None
            if self.peek() in (("name", "BEGIN"), ("name", "END")):
                pattern = self.next()[1]
            elif self.peek() != ("op", "{"):
                pattern = self.expr()
            body = self.block() if self.peek() == ("op", "{") else [("print", [])]
            rules.append((pattern, body))

    def block(self) -> list[Any]:
        if not self.take("{"):
            while self.take(";"):
                pass
            return [self.statement()]
        out: list[Any] = []
        while True:
            while self.take(";"):
                pass
            if self.take("}"):
                return out
            out.append(self.statement())

    def statement(self) -> Any:
        if self.take("print"):
            return ("print", self.arguments())
        if self.take("printf"):
            return ("printf", self.arguments())
        if self.take("if"):
            self.need("(")
            test = self.expr()
            self.need(")")
            yes = self.block()
            mark = self.at
            while self.take(";"):
                pass
            if self.take("else"):
                return ("if", test, yes, self.block())
            self.at = mark
            return ("if", test, yes, [])
        if self.take("while"):
            self.need("(")
            test = self.expr()
            self.need(")")
            return ("while", test, self.block())
        if self.take("for"):
            return self.for_statement()
        for word in ("next", "exit", "break", "continue"):
            if self.take(word):
                return (word,)
        if self.take("delete"):
            name = self.next()[1]
            self.need("[")
            index = self.expr()
            self.need("]")
            return ("delete", name, index)
        return ("expr", self.expr())

    def for_statement(self) -> Any:
        self.need("(")
        if self.tokens[self.at + 1 : self.at + 2] == [("name", "in")]:
            name = self.next()[1]
            self.at += 1
            array = self.next()[1]
            self.need(")")
            return ("forin", name, array, self.block())
        first = None if self.peek() == ("end", ";") else self.expr()
        self.need(";")
        test = None if self.peek() == ("end", ";") else self.expr()
        self.need(";")
        step = None if self.peek() == ("op", ")") else self.expr()
        self.need(")")
        return ("for", first, test, step, self.block())

    def arguments(self) -> list[Any]:
        out: list[Any] = []
        while self.peek()[0] not in ("end", "eof") and self.peek() != ("op", "}"):
            out.append(self.expr())
            if not self.take(","):
                break
        return out

    def expr(self) -> Any:
        left = self.ternary()
        if self.peek()[1] in ("=", "+=", "-=", "*=", "/=", "%=") and self.peek()[0] == "op":
            op = self.next()[1]
            return ("assign", op, left, self.expr())
        return left

    def ternary(self) -> Any:
        test = self.logical_or()
        if self.take("?"):
            yes = self.expr()
            self.need(":")
            return ("?", test, yes, self.expr())
        return test

    def logical_or(self) -> Any:
        left = self.logical_and()
        while self.take("||"):
            left = ("||", left, self.logical_and())
        return left

    def logical_and(self) -> Any:
        left = self.match()
        while self.take("&&"):
            left = ("&&", left, self.match())
        return left

    def match(self) -> Any:
        left = self.compare()
        while self.peek() in (("op", "~"), ("op", "!~"), ("name", "in")):
            op = self.next()[1]
            left = (op, left, self.compare() if op != "in" else self.next()[1])
        return left

    def compare(self) -> Any:
        left = self.concat()
        if self.peek()[0] == "op" and self.peek()[1] in ("<", "<=", "==", "!=", ">", ">="):
            op = self.next()[1]
            return ("cmp", op, left, self.concat())
        return left

    def concat(self) -> Any:
        left = self.add()
        while self.peek()[0] in ("num", "str") or self.peek() == ("op", "$") or (
                self.peek()[0] == "name" and self.peek()[1] != "in") or self.peek() == ("op", "("):
            left = ("cat", left, self.add())
        return left

    def add(self) -> Any:
        left = self.mul()
        while self.peek() in (("op", "+"), ("op", "-")):
            op = self.next()[1]
            left = ("num", op, left, self.mul())
        return left

    def mul(self) -> Any:
        left = self.unary()
        while self.peek() in (("op", "*"), ("op", "/"), ("op", "%"), ("op", "^")):
            op = self.next()[1]
            left = ("num", op, left, self.unary())
        return left

    def unary(self) -> Any:
        if self.take("!"):
            return ("!", self.unary())
        if self.take("-"):
            return ("num", "-", ("const", 0), self.unary())
        if self.take("+"):
            return self.unary()
        for op in ("++", "--"):
            if self.take(op):
                return ("assign", op[0] + "=", self.postfix(), ("const", 1))
        return self.postfix()

    def postfix(self) -> Any:
        value = self.primary()
        for op in ("++", "--"):
            if self.take(op):
                return ("post", op, value)
        return value

    def primary(self) -> Any:
        kind, text = self.next()
        if kind == "num":
            return ("const", float(text))
        if kind == "str":
            return ("const", text)
        if kind == "re":
            return ("re", text)
        if (kind, text) == ("op", "$"):
            return ("field", self.primary())
        if (kind, text) == ("op", "("):
            value = self.expr()
            self.need(")")
            return value
        if kind == "name":
            if self.take("("):
                args = []
                while not self.take(")"):
                    args.append(self.expr())
                    self.take(",")
                return ("call", text, args)
            if self.take("["):
                index = self.expr()
                self.need("]")
                return ("index", text, index)
            if text == "length":
                return ("call", "length", [])
            return ("var", text)
        raise AwkError(f"syntax error at source line 1 near {text!r}")


class _Flow(Exception):
    """next, exit, break, continue."""


class Machine:
    """The state of a running program."""

    def __init__(self, proc: Process) -> None:
        self.proc = proc
        self.vars: dict[str, Any] = {"FS": " ", "OFS": " ", "ORS": "\n", "NR": 0.0, "NF": 0.0, "SUBSEP": "\x1c"}
        self.fields: list[str] = [""]

    def load(self, line: str) -> None:
        separator = self.vars["FS"]
        parts = line.split() if separator == " " else re.split(separator if len(separator) > 1 else re.escape(separator), line)
        self.fields = [line, *(parts if line else [])]
        self.vars["NF"] = float(len(self.fields) - 1)

    def run(self, body: list[Any]) -> None:
        for node in body:
            self.step(node)

    def step(self, node: Any) -> None:
        kind = node[0]
        if kind == "print":
            values = [text_of(self.value(a)) for a in node[1]] or [self.fields[0]]
            self.proc.out(text_of(self.vars["OFS"]).join(values) + text_of(self.vars["ORS"]))
        elif kind == "printf":
            values = [text_of(self.value(a)) for a in node[1]]
            self.proc.out(printf_text(values[0], values[1:])[0])
        elif kind == "if":
            self.run(node[2] if truth(self.value(node[1])) else node[3])
        elif kind in ("while", "for"):
            self.loop(node)
        elif kind == "forin":
            for key in list(self.vars.get(node[2]) or {}):
                self.vars[node[1]] = key
                self.run(node[3])
        elif kind == "delete":
            self.vars.get(node[1], {}).pop(text_of(self.value(node[2])), None)
        elif kind == "expr":
            self.value(node[1])
        else:
            raise _Flow(kind)

    def loop(self, node: Any) -> None:
        first, test, step, body = (None, node[1], None, node[2]) if node[0] == "while" else node[1:]
        if first is not None:
            self.value(first)
        while test is None or truth(self.value(test)):
            try:
                self.run(body)
            except _Flow as flow:
                if flow.args[0] == "break":
                    break
                if flow.args[0] != "continue":
                    raise
            if step is not None:
                self.value(step)

    def value(self, node: Any) -> Any:
        kind = node[0]
        if kind == "const":
            return node[1]
        if kind == "var":
            return self.vars.get(node[1], "")
        if kind == "field":
            n = int(number(self.value(node[1])))
            return self.fields[n] if 0 <= n < len(self.fields) else ""
        if kind == "index":
            return (self.vars.get(node[1]) or {}).get(text_of(self.value(node[2])), "")
        if kind == "re":
            return float(re.search(node[1], self.fields[0]) is not None)
        if kind == "assign":
            value = self.value(node[3])
            if node[1] != "=":
                value = arith(node[1][0], number(self.value(node[2])), number(value))
            return self.store(node[2], value)
        if kind == "post":
            old = number(self.value(node[2]))
            self.store(node[2], old + (1 if node[1] == "++" else -1))
            return old
        return self.operation(node)

    def operation(self, node: Any) -> Any:
        kind = node[0]
        if kind == "?":
            return self.value(node[2] if truth(self.value(node[1])) else node[3])
        if kind == "&&":
            return float(truth(self.value(node[1])) and truth(self.value(node[2])))
        if kind == "||":
            return float(truth(self.value(node[1])) or truth(self.value(node[2])))
        if kind == "!":
            return float(not truth(self.value(node[1])))
        if kind == "in":
            return float(text_of(self.value(node[1])) in (self.vars.get(node[2]) or {}))
        if kind in ("~", "!~"):
            pattern = node[2][1] if node[2][0] == "re" else text_of(self.value(node[2]))
            return float((re.search(pattern, text_of(self.value(node[1]))) is not None) == (kind == "~"))
        if kind == "cat":
            return text_of(self.value(node[1])) + text_of(self.value(node[2]))
        if kind == "num":
            return arith(node[1], number(self.value(node[2])), number(self.value(node[3])))
        if kind == "cmp":
            return float(compare(node[1], self.value(node[2]), self.value(node[3])))
        return self.call(node[1], node[2])

    def store(self, target: Any, value: Any) -> Any:
        if target[0] == "var":
            self.vars[target[1]] = value
        elif target[0] == "index":
            self.vars.setdefault(target[1], {})[text_of(self.value(target[2]))] = value
        elif target[0] == "field":
            n = int(number(self.value(target[1])))
            while len(self.fields) <= n:
                self.fields.append("")
            self.fields[n] = text_of(value)
            if n == 0:
                self.load(self.fields[0])
            else:
                self.fields[0] = text_of(self.vars["OFS"]).join(self.fields[1:])
        return value

    def call(self, name: str, nodes: list[Any]) -> Any:
        if name in ("sub", "gsub"):
            pattern = nodes[0][1] if nodes[0][0] == "re" else text_of(self.value(nodes[0]))
            target = nodes[2] if len(nodes) > 2 else ("field", ("const", 0))
            with_ = text_of(self.value(nodes[1]))
            text, count = re.subn(pattern, lambda m: with_.replace("&", m[0]), text_of(self.value(target)),
                                  count=0 if name == "gsub" else 1)
            self.store(target, text)
            return float(count)
        if name == "split":
            separator = text_of(self.value(nodes[2])) if len(nodes) > 2 else self.vars["FS"]
            text = text_of(self.value(nodes[0]))
            parts = text.split() if separator == " " else text.split(separator) if text else []
            self.vars[nodes[1][1]] = {str(n): part for n, part in enumerate(parts, 1)}
            return float(len(parts))
        args = [self.value(node) for node in nodes]
        if name == "length":
            subject = args[0] if args else self.fields[0]
            return float(len(subject) if isinstance(subject, dict) else len(text_of(subject)))
        if name == "substr":
            text, start = text_of(args[0]), int(number(args[1])) - 1
            end = start + int(number(args[2])) if len(args) > 2 else len(text)
            return text[max(start, 0) : max(end, 0)]
        if name == "index":
            return float(text_of(args[0]).find(text_of(args[1])) + 1)
        if name == "sprintf":
            return printf_text(text_of(args[0]), [text_of(a) for a in args[1:]])[0]
        if name in ("toupper", "tolower"):
            return text_of(args[0]).upper() if name == "toupper" else text_of(args[0]).lower()
        if name == "int":
            return float(int(number(args[0])))
        raise AwkError(f"calling undefined function {name}")


def number(value: Any) -> float:
    """A value as a number: the leading number of a text."""
    if isinstance(value, float):
        return value
    found = re.match(r"\s*[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+)", str(value))
    return float(found[0]) if found else float(value) if isinstance(value, int) else 0.0


def text_of(value: Any) -> str:
    """A value as text: integers without a point, others with six digits."""
    if isinstance(value, (float, int)):
        return str(int(value)) if value == int(value) else f"{value:.6g}"
    return str(value)


def truth(value: Any) -> bool:
    """Not 0 and not empty."""
    return value != 0 if isinstance(value, (float, int)) else value != ""


def looks_numeric(value: Any) -> bool:
    """A number, or a text that is one."""
    return isinstance(value, (float, int)) or re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", str(value)) is not None


def compare(op: str, a: Any, b: Any) -> bool:
    """As numbers if both look like numbers, else as text."""
    x: Any = number(a) if looks_numeric(a) and looks_numeric(b) else text_of(a)
    y: Any = number(b) if looks_numeric(a) and looks_numeric(b) else text_of(b)
    return bool({"<": x < y, "<=": x <= y, "==": x == y, "!=": x != y, ">": x > y, ">=": x >= y}[op])


def arith(op: str, a: float, b: float) -> float:
    """One operation."""
    if op in "/%" and b == 0:
        raise AwkError("division by zero")
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1), "%": a % (b or 1), "^": a**b if op == "^" else 0.0}[op]


@tool("awk")
def awk(proc: Process, argv: list[str]) -> int:
    """awk [-F SEP] [-v NAME=VALUE] PROGRAM [FILE ...]"""
    args, machine = argv[1:], Machine(proc)
    while args and args[0].startswith("-") and len(args[0]) > 1:
        flag = args.pop(0)
        value = flag[2:] or (args.pop(0) if args else "")
        if flag[1] == "F":
            machine.vars["FS"] = value.replace("\\t", "\t")
        elif flag[1] == "v":
            name, _, text = value.partition("=")
            machine.vars[name] = text
    if not args:
        proc.err("usage: awk [-F fs][-v var=value][prog | -f progfile][file ...]\n")
        return 2
    failed: list[int] = []
    try:
        rules = Parser(args[0]).program()
        _run(machine, rules, [data for _, data in inputs(proc, argv, args[1:], failed)]
             if any(p != "BEGIN" for p, _ in rules) else [])
    except AwkError as error:
        proc.err(f"awk: {error}\n")
        return 2
    return 2 if failed else 0


def _run(machine: Machine, rules: list[tuple[Any, Any]], files: list[bytes]) -> None:
    try:
        for pattern, body in rules:
            if pattern == "BEGIN":
                machine.run(body)
        for data in files:
            for line in lines_of(data):
                machine.vars["NR"] += 1
                machine.load(line)
                try:
                    for pattern, body in rules:
                        if pattern not in ("BEGIN", "END") and (pattern is None or truth(machine.value(pattern))):
                            machine.run(body)
                except _Flow as flow:
                    if flow.args[0] != "next":
                        raise
    except _Flow:
        pass
    for pattern, body in rules:
        if pattern == "END":
            machine.run(body)
