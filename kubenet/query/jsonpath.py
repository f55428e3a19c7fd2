"""kubectl's JSONPath templates: `{.items[*].metadata.name}`, `{range .items[*]}{.metadata.name}{"\\n"}{end}`, filters, slices.

    render(template, obj) -> text         what `-o jsonpath=TEMPLATE` prints
    evaluate("{.spec.ports[0]}", obj)     the values that one expression names, [] if there are none

A template is text with expressions in braces. Inside: fields (`.a`, `['a.b']`, `.a\\.b`), `[*]`, `.*`, indexes, slices with
steps, unions (`[0,2]`, `['a','b']`), `..a`, filters `[?(@.x=="y")]` with == != < <= > >=, quoted text, `range ... end`, `@`
and `$`. Several expressions in one pair of braces are joined. A field that is missing gives nothing, as with kubectl get.

Source: kubernetes.io/docs/reference/kubectl/jsonpath. Leaves out, as kubectl: regular expressions, `&&` and `||`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kubenet.errors import UsageError

Step = tuple[str, Any]  # field NAME, index N, slice SLICE, all, down, root, filter (STEPS, OPERATOR, VALUE), union [STEP]

_NAME = re.compile(r"(?:[^\s.\[\]{}()'\"\\,=<>!|]|\\.)+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_SUBSCRIPT = re.compile(r"-?\d*(?::-?\d*){0,2}")
_COMPARISON = re.compile(r"(==|!=|<=|>=|<|>)")


def bad(template: str, why: str) -> UsageError:
    """The error for a template that does not parse."""
    example = "kubenet get pods -o jsonpath='{.items[*].metadata.name}'"
    return UsageError(f"jsonpath {template!r} does not parse", why=why, try_=example)


def render(template: str, obj: Any) -> str:
    """The template's text for an object. Raises UsageError."""
    if "{" not in template:
        template = "{" + template + "}"
    pieces = _pieces(template)
    out, at = _render(pieces, 0, obj, obj, template)
    if at < len(pieces):
        raise bad(template, "`end` without `range`")
    return out


def evaluate(expression: str, obj: Any) -> list[Any]:
    """The values that one expression in braces names. Raises UsageError."""
    return select(parse(expression.strip("{} "), expression), [obj], obj)


def _pieces(template: str) -> list[tuple[bool, str]]:
    """(is an expression, text) in order."""
    out: list[tuple[bool, str]] = []
    at = 0
    while at < len(template):
        start = template.find("{", at)
        if start < 0:
            out.append((False, template[at:]))
            break
        if start > at:
            out.append((False, template[at:start]))
        end = _closing(template, start)
        out.append((True, template[start + 1 : end].strip()))
        at = end + 1
    return out


def _closing(template: str, start: int) -> int:
    """Where the brace at `start` closes; braces in quotes do not count."""
    at = start + 1
    while at < len(template):
        if template[at] == "}":
            return at
        quoted = _QUOTED.match(template, at)
        at = quoted.end() if quoted else at + 1
    raise bad(template, "a { is not closed")


def _render(pieces: list[tuple[bool, str]], at: int, here: Any, root: Any, template: str) -> tuple[str, int]:
    """The text of the pieces from `at` on, up to an `end`; and the index of that."""
    out: list[str] = []
    while at < len(pieces):
        is_expression, text = pieces[at]
        if not is_expression:
            out.append(text)
        elif text == "end":
            return "".join(out), at
        elif text.startswith("range"):
            items = select(parse(text[5:].strip(), template), [here], root)
            body, end = "", _end_of(pieces, at, template)
            for item in items:
                body, _ = _render(pieces, at + 1, item, root, template)
                out.append(body)
            at = end
        else:
            out.append(_expression(text, here, root, template))
        at += 1
    return "".join(out), at


def _end_of(pieces: list[tuple[bool, str]], at: int, template: str) -> int:
    depth = 0
    for index in range(at, len(pieces)):
        is_expression, text = pieces[index]
        if is_expression and text.startswith("range"):
            depth += 1
        elif is_expression and text == "end":
            depth -= 1
            if depth == 0:
                return index
    raise bad(template, "`range` without `end`")


def _expression(text: str, here: Any, root: Any, template: str) -> str:
    """The text of what stands in one pair of braces: quoted text, or paths separated by blanks."""
    out: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        quoted = _QUOTED.match(text, at)
        if quoted:
            out.append(_unquote(quoted))
            at = quoted.end()
            continue
        end = _path_end(text, at)
        if end == at:
            raise bad(template, f"a text is not closed at {text[at:]!r}")
        values = select(parse(text[at:end], template), [here], root)
        out.append(" ".join(show(value) for value in values))
        at = end
    return "".join(out)


def _path_end(text: str, at: int) -> int:
    """Where a path ends: at a blank outside brackets and quotes, or before a quoted text."""
    depth = 0
    while at < len(text):
        char = text[at]
        if depth:
            quoted = _QUOTED.match(text, at)
            if quoted:
                at = quoted.end()
                continue
        elif char.isspace() or char in "'\"":
            return at
        depth += (char in "[(") - (char in "])")
        at += 1
    return at


def _unquote(found: re.Match[str]) -> str:
    text = found[1] if found[1] is not None else found[2]
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t", "r": "\r"}.get(m[1], m[1]), text)


def show(value: Any) -> str:
    """A value as kubectl prints it: texts bare, structures as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# -- paths ------------------------------------------------------------------------------------------------------------------


def parse(text: str, template: str = "") -> list[Step]:
    """The steps of one path. Raises UsageError."""
    template = template or text
    steps: list[Step] = []
    at = 1 if text[:1] in ("@", "$") else 0
    if text[:1] == "$":
        steps.append(("root", None))
    while at < len(text):
        if text.startswith("..", at):
            steps.append(("down", None))
            at += 2 if text[at + 2 : at + 3] != "[" else 2
            if text[at : at + 1] not in ("[", ""):
                at = _field(text, at, steps, template)
        elif text[at] == ".":
            at += 1
            if at < len(text) and text[at] != "[":
                at = _field(text, at, steps, template)
        elif text[at] == "[":
            at = _bracket(text, at, steps, template)
        elif at == 0:
            at = _field(text, at, steps, template)
        else:
            raise bad(template, f"unexpected {text[at:]!r}")
    return steps


def _field(text: str, at: int, steps: list[Step], template: str) -> int:
    if text[at] == "*":
        steps.append(("all", None))
        return at + 1
    found = _NAME.match(text, at)
    if not found:
        raise bad(template, f"a field's name is wanted at {text[at:]!r}")
    steps.append(("field", re.sub(r"\\(.)", r"\1", found[0])))
    return found.end()


def _bracket(text: str, at: int, steps: list[Step], template: str) -> int:
    end = _matching(text, at, template)
    inside = text[at + 1 : end].strip()
    if inside.startswith("?"):
        steps.append(("filter", _filter(inside[1:].strip(), template)))
    elif inside == "*":
        steps.append(("all", None))
    else:
        union = [_subscript(part.strip(), template) for part in _split(inside)]
        steps.append(union[0] if len(union) == 1 else ("union", union))
    return end + 1


def _matching(text: str, at: int, template: str) -> int:
    depth = 0
    while at < len(text):
        quoted = _QUOTED.match(text, at)
        if quoted:
            at = quoted.end()
            continue
        depth += (text[at] == "[") - (text[at] == "]")
        if depth == 0:
            return at
        at += 1
    raise bad(template, "a [ is not closed")


def _split(inside: str) -> list[str]:
    """At commas outside quotes."""
    out, start, at = [], 0, 0
    while at < len(inside):
        quoted = _QUOTED.match(inside, at)
        if quoted:
            at = quoted.end()
            continue
        if inside[at] == ",":
            out.append(inside[start:at])
            start = at + 1
        at += 1
    return [*out, inside[start:]]


def _subscript(text: str, template: str) -> Step:
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        return "field", _unquote(quoted)
    if not text or not _SUBSCRIPT.fullmatch(text):
        raise bad(template, f"[{text}] is no index, slice, name or filter")
    if ":" not in text:
        return "index", int(text)
    first, last, step = ([int(part) if part else None for part in text.split(":")] + [None])[:3]
    if step is not None and step < 1:
        raise bad(template, "the step of a slice must be at least 1")
    return "slice", slice(first, last, step)


def _filter(text: str, template: str) -> tuple[list[Step], str, Any]:
    """(path, operator, value or path) of `(@.a == "b")`; operator "" only asks whether the path is there."""
    if not (text.startswith("(") and text.endswith(")")):
        raise bad(template, "a filter is [?(@.field==value)]")
    text = text[1:-1].strip()
    parts = _COMPARISON.split(text, maxsplit=1)
    if len(parts) == 1:
        return parse(text, template), "", None
    left, operator, right = (part.strip() for part in parts)
    return parse(left, template), operator, _literal(right, template)


def _literal(text: str, template: str) -> Any:
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        return _unquote(quoted)
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    except ValueError:
        raise bad(template, f"{text!r} is no text in quotes, number, true or false") from None


def select(steps: list[Step], values: list[Any], root: Any) -> list[Any]:
    """What the steps lead to from these values."""
    for step in steps:
        values = [root] if step[0] == "root" else [found for value in values for found in _step(step, value)]
    return values


def _step(step: Step, value: Any) -> list[Any]:
    what, argument = step
    if what == "field":
        return [value[argument]] if isinstance(value, dict) and argument in value else []
    if what == "all":
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if what == "down":
        return _descend(value)
    if what == "union":
        return [found for each in argument for found in _step(each, value)]
    if not isinstance(value, list):
        return []
    if what == "index":
        return [value[argument]] if -len(value) <= argument < len(value) else []
    if what == "slice":
        return list(value[argument])
    path, operator, wanted = argument
    return [item for item in value if _holds(select(path, [item], item), operator, wanted)]


def _descend(value: Any) -> list[Any]:
    """The value and everything below it."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for child in below for found in _descend(child))]


def _holds(found: list[Any], operator: str, wanted: Any) -> bool:
    if not operator or not found:
        return bool(found) and not operator
    have = found[0]
    if operator in ("==", "!="):
        return (type(have) is type(wanted) and have == wanted or _numbers(have, wanted) and have == wanted) == (operator == "==")
    if not (_numbers(have, wanted) or isinstance(have, str) and isinstance(wanted, str)):
        return False
    return bool({"<": have < wanted, "<=": have <= wanted, ">": have > wanted, ">=": have >= wanted}[operator])


def _numbers(one: Any, other: Any) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (one, other))
