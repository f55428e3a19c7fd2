"""From the text of a question to a tree: a tokenizer and a parser by recursive descent.

    or, and, not x, == != < <= > >= in, not in, is, is not, + -, * / // %, -x, x.field, f(x, name=y), x.f(y), x[0], (x), [x, y], {x, y}
    'text', 12, 1.5, True, False, None
    50ms, 1.5s, 2m      times, as whole nanoseconds: what `now` and every field that is a time has
    5%                  0.05; a % right behind a number, unless a number, a name or a bracket follows
    f(x for y in z if w)   a walk over a list, as the only argument

Words, precedence and chains of comparisons (a < b < c) are Python's. Every node knows its column, 0 is the first one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from kubenet.errors import UsageError
from kubenet.units import parse_duration

MAX_LENGTH = 2000
MAX_DEPTH = 40  # of brackets
MAX_TREE = 120  # of operations one within the other

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<time>\d+(?:\.\d+)?(?:ns|us|ms|s|m|h|d)\b)"
    r"|(?P<percent>\d+(?:\.\d+)?%(?!\s*[\w('\".\[]))"
    r"|(?P<number>\d+\.\d+|\d+(?![\w.]))"
    r"|(?P<text>'[^'\n]*'|\"[^\"\n]*\")"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<mark>==|!=|<=|>=|//|[<>()\[\]{},.+\-*/%=])"
)
KEYWORDS = ("and", "or", "not", "in", "is", "for", "if", "True", "False", "None")
CONSTANTS = {"True": True, "False": False, "None": None}
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "is", "not")


@dataclass(slots=True)
class Token:
    """kind: time, percent, number, text, name, mark, end."""

    kind: str
    text: str
    at: int


@dataclass(slots=True)
class Node:
    """`op` says what it is, `parts` its operands, `name` a field, function or variable, `value` a constant.

    const, name, field, index, call (parts: positional, keys: named), method (the thing first), walk (parts: body, list, condition),
    or, and, not, neg, compare (ops between the parts), list, set, and + - * / // %.
    """

    op: str
    at: int
    parts: list[Node] = field(default_factory=list)
    name: str = ""
    value: Any = None
    keys: dict[str, Node] = field(default_factory=dict)
    ops: list[str] = field(default_factory=list)


def mistake(what: str, text: str, at: int, why: str = "", try_: str = "") -> UsageError:
    """The error for something wrong at a column; the excerpt starts there."""
    excerpt = text[at : at + 30]
    shown = f"   {excerpt}{'...' if at + 30 < len(text) else ''}" if excerpt else "   (the end)"
    return UsageError(what, why, try_, at=f"column {at + 1}:{shown}")


def tokens(text: str) -> list[Token]:
    """The words of a question, and an end. UsageError for a character that belongs to none."""
    out: list[Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            if text[at] in "'\"":
                raise mistake("the text has no closing quote", text, at)
            if text[at].isdigit():
                raise mistake("this is no number and no time", text, at, try_="12, 1.5, 50ms, 2s, 5%")
            raise mistake(f"{text[at]!r} has no meaning here", text, at)
        kind = str(found.lastgroup)
        if kind != "space":
            out.append(Token(kind, found.group(), at))
        at = found.end()
    out.append(Token("end", "", len(text)))
    return out


class Parser:
    """One question. `tree()` is its root."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_LENGTH:
            raise UsageError(f"the question is longer than {MAX_LENGTH} characters")
        self.tokens = tokens(text)
        self.next = 0
        self.depth = 0

    def tree(self) -> Node:
        """The whole text as one expression. UsageError."""
        if self.peek.kind == "end":
            raise UsageError("the question is empty", try_="ready('web-0')")
        node = self.expression()
        if self.peek.kind != "end":
            raise self.wrong(self.peek)
        level, depth = [node], 0
        while level:
            depth += 1
            if depth > MAX_TREE:
                raise mistake("the question is nested too deeply", self.text, level[0].at)
            level = [child for parent in level for child in (*parent.parts, *parent.keys.values())]
        return node

    # ---- tokens

    @property
    def peek(self) -> Token:
        return self.tokens[self.next]

    def take(self) -> Token:
        token = self.tokens[self.next]
        self.next += token.kind != "end"
        return token

    def accept(self, *words: str) -> Token | None:
        """The next token if it is one of these marks or keywords."""
        token = self.peek
        if token.kind in ("mark", "name") and token.text in words:
            return self.take()
        return None

    def expect(self, word: str) -> Token:
        token = self.accept(word)
        if token is None:
            raise mistake(f"{word!r} is missing here", self.text, self.peek.at)
        return token

    def wrong(self, token: Token) -> UsageError:
        if token.kind == "end":
            return mistake("something is missing at the end", self.text, token.at)
        hint = "== compares" if token.text == "=" else ""
        return mistake(f"{token.text!r} does not fit here", self.text, token.at, try_=hint)

    # ---- grammar, from the loosest to the tightest

    def expression(self) -> Node:
        """or"""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise mistake("the question is nested too deeply", self.text, self.peek.at)
        node = self._chain("or", lambda: self._chain("and", self._not))
        self.depth -= 1
        return node

    def _chain(self, word: str, operand: Any) -> Node:
        node: Node = operand()
        while token := self.accept(word):
            right = operand()
            if node.op == word:
                node.parts.append(right)
            else:
                node = Node(word, token.at, [node, right])
        return node

    def _not(self) -> Node:
        nots = []
        while token := self.accept("not"):
            nots.append(token.at)
        node = self._comparison()
        for at in reversed(nots):
            node = Node("not", at, [node])
        return node

    def _comparison(self) -> Node:
        first = self._sum()
        node = Node("compare", first.at, [first])
        while token := self.accept(*COMPARISONS):
            word = token.text
            if word == "not":
                self.expect("in")
                word = "not in"
            elif word == "is" and self.accept("not"):
                word = "is not"
            node.at = token.at
            node.ops.append(word)
            node.parts.append(self._sum())
        return node if node.ops else first

    def _sum(self) -> Node:
        return self._left(("+", "-"), lambda: self._left(("*", "/", "//", "%"), self._unary))

    def _left(self, marks: tuple[str, ...], operand: Any) -> Node:
        node: Node = operand()
        while token := self.accept(*marks):
            node = Node(token.text, token.at, [node, operand()])
        return node

    def _unary(self) -> Node:
        signs = []
        while token := self.accept("-"):
            signs.append(token.at)
        node = self._postfix()
        for at in reversed(signs):
            node = Node("neg", at, [node])
        return node

    def _postfix(self) -> Node:
        node = self._atom()
        while True:
            if self.accept("."):
                token = self.take()
                if token.kind != "name" or token.text in KEYWORDS:
                    raise mistake("the name of a field is missing", self.text, token.at)
                node = Node("field", token.at, [node], token.text)
            elif self.peek.text == "(" and node.op in ("name", "field"):
                node = self._call(node)
            elif opening := self.accept("["):
                node = Node("index", opening.at, [node, self.expression()])
                self.expect("]")
            else:
                return node

    def _call(self, function: Node) -> Node:
        node = Node("method" if function.parts else "call", function.at, [*function.parts], function.name)
        self.expect("(")
        while not self.accept(")"):
            self._argument(node)
            if not self.accept(","):
                self.expect(")")
                break
        return node

    def _argument(self, call: Node) -> None:
        token = self.peek
        following = self.tokens[min(self.next + 1, len(self.tokens) - 1)]
        if token.kind == "name" and following.text == "=" and following.kind == "mark":
            self.take()
            self.take()
            if token.text in call.keys:
                raise mistake(f"{token.text} is given twice", self.text, token.at)
            call.keys[token.text] = self.expression()
            return
        if call.keys:
            raise mistake("arguments without a name come first", self.text, token.at)
        body = self.expression()
        walk = self.accept("for")
        if walk is None:
            call.parts.append(body)
            return
        name = self.take()
        if name.kind != "name" or name.text in KEYWORDS:
            raise mistake("a name is missing after `for`", self.text, name.at)
        self.expect("in")
        node = Node("walk", walk.at, [body, self.expression()], name.text)
        if self.accept("if"):
            node.parts.append(self.expression())
        if len(call.parts) > (call.op == "method") or self.peek.text != ")":
            raise mistake("a walk is a call's only argument", self.text, walk.at)
        call.parts.append(node)

    def _atom(self) -> Node:
        token = self.take()
        if token.kind == "time":
            return Node("const", token.at, value=parse_duration(token.text))
        if token.kind == "percent":
            return Node("const", token.at, value=float(token.text[:-1]) / 100)
        if token.kind == "number":
            return Node("const", token.at, value=float(token.text) if "." in token.text else int(token.text))
        if token.kind == "text":
            return Node("const", token.at, value=token.text[1:-1])
        if token.kind == "name" and token.text in CONSTANTS:
            return Node("const", token.at, value=CONSTANTS[token.text])
        if token.kind == "name" and token.text not in KEYWORDS:
            return Node("name", token.at, name=token.text)
        if token.text == "(" and token.kind == "mark":
            node = self.expression()
            self.expect(")")
            return node
        if token.text in ("[", "{") and token.kind == "mark":
            return self._list(token)
        raise self.wrong(token)

    def _list(self, opening: Token) -> Node:
        node = Node("list" if opening.text == "[" else "set", opening.at)
        closing = "]" if opening.text == "[" else "}"
        while not self.accept(closing):
            node.parts.append(self.expression())
            if not self.accept(","):
                self.expect(closing)
                break
        return node
