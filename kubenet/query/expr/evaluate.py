"""A question computed: whitelisted operations over values of facts.py, within a budget.

Values are None, truth, numbers, texts, lists, sets and Records. Operators take what they take in Python, but + and * only numbers
(and + two texts), so that no short text makes a long one. `x.field` of a Record that is not there (a listener nobody opened) raises
Absent: a query says so, `until` and checks take it as "not so".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from kubenet.errors import KubenetError, UsageError
from kubenet.query.expr.records import Absent, Record, Series
from kubenet.query.expr.syntax import Node, Parser, mistake

if TYPE_CHECKING:
    from kubenet.query.expr.facts import Facts

_ORDER = ("<", "<=", ">", ">=")
BUDGET = 200_000  # nodes that one answer may take
TIMES = ("now", "left", "timer", "age", "expires")  # what changes although nothing happens


class Question:
    """A parsed question. `reads_time`: its answer may change while nothing happens."""

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.root = root
        self.reads_time = any(node.name in TIMES for node in _walk(root))
        for node in _walk(root):
            if node.op == "call" and node.name not in FUNCTIONS and not _known(node.name):
                raise _no_function(text, node)

    def value(self, facts: Facts) -> Any:
        """The answer now. UsageError for what can never be answered, Absent and NotFoundError for what is not there."""
        return _Run(self.text, facts).of(self.root)

    def look(self, facts: Facts) -> tuple[bool, Any]:
        """(is it so, the number on the left of a comparison or None). What is not there makes it no. UsageError."""
        node, run = self.root, _Run(self.text, facts)
        try:
            if node.op != "compare" or len(node.parts) != 2 or node.ops[0] not in _ORDER:
                return bool(run.of(node)), None
            left = run.of(node.parts[0])
            seen = left if isinstance(left, (int, float)) and not isinstance(left, bool) else None
            right = run.of(node.parts[1])
            if left is None or right is None:
                return False, None
            try:
                return _COMPARE[node.ops[0]](left, right), seen
            except TypeError as error:
                raise run.wrong(node, str(error)) from None
        except UsageError:
            raise
        except KubenetError:
            return False, None

    @property
    def extreme(self) -> str:
        """Which values of the left side are the near ones: the highest or the lowest."""
        return "lowest" if self.root.ops and self.root.ops[0] in ("<", "<=") else "highest"

    def nearer(self, a: Any, b: Any) -> bool:
        """Is `a` nearer to a yes than `b`?"""
        return bool(a < b) if self.extreme == "lowest" else bool(a > b)


def parse(text: str) -> Question:
    """The question. Raises UsageError with its column."""
    return Question(text, Parser(text).tree())


def _walk(node: Node) -> list[Node]:
    out = [node]
    for child in out:
        out.extend(child.parts)
        out.extend(child.keys.values())
    return out


def _known(name: str) -> bool:
    from kubenet.query.expr.facts import Facts

    return name in Facts.FUNCTIONS


def _no_function(text: str, node: Node) -> UsageError:
    from kubenet.query.expr.facts import Facts

    known = [*Facts.FUNCTIONS, *FUNCTIONS]
    near = get_close_matches(node.name, known, 1)
    return mistake(f"there is no {node.name}(){f'. Did you mean {near[0]}()?' if near else ''}", text, node.at,
                   why="known: " + ", ".join(known))


class _Run:
    """One answer under way."""

    def __init__(self, text: str, facts: Facts) -> None:
        self.text = text
        self.facts = facts
        self.left = BUDGET
        self.names: dict[str, Any] = {}

    def of(self, node: Node) -> Any:
        """The node's value."""
        self.left -= 1
        if self.left < 0:
            raise mistake("the question takes too long to answer", self.text, node.at)
        operation = _OPERATIONS.get(node.op)
        try:
            return operation(self, node) if operation is not None else self.arithmetic(node)
        except (TypeError, ArithmeticError, ValueError, IndexError, AttributeError) as error:
            raise self.wrong(node, str(error) or type(error).__name__) from None

    def wrong(self, node: Node, why: str) -> UsageError:
        return mistake("this cannot be answered", self.text, node.at, why=why)

    def const(self, node: Node) -> Any:
        return node.value

    def name(self, node: Node) -> Any:
        if node.name in self.names:
            return self.names[node.name]
        if node.name == "now":
            return self.facts.now
        raise mistake(f"the name {node.name} means nothing here", self.text, node.at,
                      why="names of pods, nodes and states stand in quotes", try_=f"'{node.name}'")

    def field(self, node: Node) -> Any:
        value = self.of(node.parts[0])
        if value is None:
            raise Absent(f"there is no {_source(node.parts[0])} now", at=f"column {node.at + 1}")
        if isinstance(value, Series) and node.name in value.FIELDS:
            return value.FIELDS[node.name](value)
        if not isinstance(value, Record):
            if node.name == "total" and isinstance(value, int):
                return getattr(value, "total", int(value))
            raise self.wrong(node, f"{_kind(value)} has no fields")
        if node.name in value.methods:
            raise mistake(f"{node.name} of a {value.kind} is a function", self.text, node.at, try_=usage(value.method(node.name)))
        if node.name not in value.fields:
            near = get_close_matches(node.name, list(value.fields), 1)
            raise mistake(f"a {value.kind} has no field {node.name}{f'. Did you mean {near[0]}?' if near else ''}", self.text, node.at,
                          why="it has: " + ", ".join([*value.fields, *(f"{name}()" for name in value.methods)]))
        return value.get(node.name)

    def index(self, node: Node) -> Any:
        value, at = self.of(node.parts[0]), self.of(node.parts[1])
        if not isinstance(value, (list, str)) or not isinstance(at, int):
            raise self.wrong(node, f"{_kind(value)} has no element {at!r}")
        if not -len(value) <= at < len(value):
            raise Absent(f"there is no element {at}: there are {len(value)}", at=f"column {node.at + 1}")
        return value[at]

    def call(self, node: Node) -> Any:
        function = FUNCTIONS.get(node.name) or self.facts.function(node.name)
        assert function is not None, node.name
        return self.ask(node, function, node.parts)

    def method(self, node: Node) -> Any:
        value = self.of(node.parts[0])
        if not isinstance(value, Record) or node.name not in value.methods:
            known = f"it has: {', '.join(f'{name}()' for name in value.methods)}" if isinstance(value, Record) and value.methods else ""
            raise mistake(f"{_kind(value)} has no function {node.name}()", self.text, node.at, why=known)
        return self.ask(node, value.method(node.name), node.parts[1:])

    def ask(self, node: Node, function: Callable[..., Any], parts: list[Node]) -> Any:
        """What a function of the values of `parts` answers."""
        arguments = [self.of(part) for part in parts]
        named = {key: self.of(part) for key, part in node.keys.items()}
        try:
            return function(*arguments, **named)
        except TypeError as error:
            raise mistake(f"{node.name}() was asked in a way it does not know", self.text, node.at,
                          why=re.sub(r"^\w+\.", "", str(error)), try_=usage(function)) from None
        except UsageError as error:
            raise mistake(error.what, self.text, node.at, error.why, error.try_) from None

    def walk(self, node: Node) -> list[Any]:
        source = self.of(node.parts[1])
        if not isinstance(source, list):  # a set has no order that is the same in every run
            raise self.wrong(node, f"{_kind(source)} is no list")
        hidden = self.names.get(node.name)
        had = node.name in self.names
        out = []
        for item in source:
            self.names[node.name] = item
            if len(node.parts) < 3 or self.of(node.parts[2]):
                out.append(self.of(node.parts[0]))
        self.names.pop(node.name, None)
        if had:
            self.names[node.name] = hidden
        return out

    def either(self, node: Node) -> Any:
        """`or`. What is not there is a "no" if another part may still say yes."""
        missing: KubenetError | None = None
        for part in node.parts:
            try:
                value = self.of(part)
            except UsageError:
                raise
            except KubenetError as error:
                missing = error
                continue
            if value:
                return value
        if missing is not None:
            raise missing
        return value

    def both(self, node: Node) -> Any:
        for part in node.parts:
            value = self.of(part)
            if not value:
                return value
        return value

    def negate(self, node: Node) -> bool:
        return not self.of(node.parts[0])

    def minus(self, node: Node) -> Any:
        return -_number(self.of(node.parts[0]))

    def compare(self, node: Node) -> bool:
        left = self.of(node.parts[0])
        for op, part in zip(node.ops, node.parts[1:], strict=True):
            right = self.of(part)
            if not _COMPARE[op](left, right):
                return False
            left = right
        return True

    def sequence(self, node: Node) -> list[Any]:
        return [self.of(part) for part in node.parts]

    def set(self, node: Node) -> frozenset[Any]:
        return frozenset(self.of(part) for part in node.parts)

    def arithmetic(self, node: Node) -> Any:
        left, right = self.of(node.parts[0]), self.of(node.parts[1])
        if node.op == "+" and isinstance(left, str) and isinstance(right, str):
            return left + right
        return _ARITHMETIC[node.op](_number(left), _number(right))


def usage(function: Callable[..., Any]) -> str:
    """How a function is asked: the first words of its text."""
    return (function.__doc__ or "").partition(": ")[0].strip()


def _number(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else value
    raise TypeError(f"{_kind(value)} is no number")


def _kind(value: Any) -> str:
    if isinstance(value, Record):
        return f"a {value.kind}"
    return {"NoneType": "nothing", "str": "a text", "list": "a list", "frozenset": "a set", "bool": "a truth value"}.get(
        type(value).__name__, "a number")


def _source(node: Node) -> str:
    return f"{node.name}()" if node.op == "call" else node.name or "such thing"


def _same(a: Any, b: Any) -> bool:
    return a is b or (a is None) == (b is None) and bool(a == b)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b), "!=": lambda a, b: bool(a != b), "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b), ">": lambda a, b: bool(a > b), ">=": lambda a, b: bool(a >= b),
    "in": lambda a, b: a in b, "not in": lambda a, b: a not in b, "is": _same, "is not": lambda a, b: not _same(a, b),
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b,
}
_OPERATIONS: dict[str, Callable[[_Run, Node], Any]] = {
    "const": _Run.const, "name": _Run.name, "field": _Run.field, "index": _Run.index, "call": _Run.call,
    "method": _Run.method, "walk": _Run.walk, "or": _Run.either, "and": _Run.both,
    "not": _Run.negate, "neg": _Run.minus, "compare": _Run.compare, "list": _Run.sequence,
    "set": _Run.set,
}


# ---- functions of values alone


def _count(things: Any) -> int:
    """count(list): how many."""
    if not isinstance(things, (list, frozenset, str)):
        raise UsageError(f"{_kind(things)} cannot be counted")
    return len(things)


def _listed(name: str, things: Any) -> list[Any]:
    if not isinstance(things, list):
        raise UsageError(f"{name}() wants a list, not {_kind(things)}")
    return things


def _sum(things: Any) -> Any:
    """sum(list)"""
    return sum(_number(value) for value in _listed("sum", things))


def _extreme(name: str, pick: Callable[[Any], Any]) -> Callable[..., Any]:
    def of(*things: Any) -> Any:
        values = _listed(name, things[0]) if len(things) == 1 else list(things)
        if not values:
            raise Absent(f"{name}() of nothing")
        return pick(values)

    of.__doc__ = f"{name}(list) or {name}(x, y)"
    return of


def _any(things: Any) -> bool:
    """any(list)"""
    return any(_listed("any", things))


def _all(things: Any) -> bool:
    """all(list)"""
    return all(_listed("all", things))


def _abs(x: Any) -> Any:
    """abs(x)"""
    return abs(_number(x))


def _approx(x: Any, y: Any, tolerance: Any) -> bool:
    """approx(x, y, 5%): x differs from y by at most this part of y"""
    return bool(abs(_number(x) - _number(y)) <= abs(_number(y)) * _number(tolerance))


def _between(x: Any, low: Any, high: Any) -> bool:
    """between(x, low, high): low <= x <= high"""
    return bool(_number(low) <= _number(x) <= _number(high))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "count": _count, "sum": _sum, "min": _extreme("min", min), "max": _extreme("max", max), "any": _any, "all": _all, "abs": _abs,
    "approx": _approx, "between": _between,
}
