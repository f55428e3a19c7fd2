"""What `wait --for` waits for, asked of objects: condition=Ready, jsonpath='{.status.phase}'=Running, delete, create.

    wish = Wish("condition=Ready")
    wish.holds(obj)          of an object; None is one that is not there

Source: kubectl pkg/cmd/wait: wait.go conditionFuncFor(), condition.go checkCondition(), json.go, delete.go, create.go.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kubenet.errors import UsageError
from kubenet.query import jsonpath

Obj = dict[str, Any]
EXAMPLE = "kubenet wait --for=condition=Ready pod/web-0"


_RELAXED = re.compile(r"\{\.?([^{}]+)\}|\.?([^{}]+)")  # pkg/cmd/get RelaxedJSONPathExpression()


class Wish:
    """One --for."""

    def __init__(self, text: str) -> None:
        """UsageError for what is none of the four forms."""
        self.text = text
        kind, equals, rest = text.partition("=")
        self.kind = kind.lower()
        self.name = self.value = ""
        self.any_value = False
        if self.kind in ("delete", "create") and not equals:
            return
        if self.kind == "condition" and rest:
            self.name, equals, self.value = rest.partition("=")
            self.value = self.value if equals else "true"
        elif self.kind == "jsonpath" and rest:
            self._path(rest)
        else:
            raise UsageError(f"--for={text} is nothing to wait for",
                             why="condition=NAME[=VALUE], jsonpath='{PATH}'[=VALUE], delete and create are", try_=EXAMPLE)

    def _path(self, rest: str) -> None:
        end = rest.rfind("}") + 1
        path, value = (rest[:end], rest[end:]) if end else rest.partition("=")[::2] if "=" in rest else (rest, "")
        if end:
            if value and not value.startswith("=") or value == "=":
                raise UsageError(f"jsonpath wait value {value!r} is not =VALUE",
                                 try_="kubenet wait --for=jsonpath='{.status.phase}'=Running pod/web-0")
            value = value[1:]
        inner = _RELAXED.fullmatch(path)
        if inner is None:
            raise UsageError(f"{path!r} is no jsonpath", try_="kubenet wait --for=jsonpath='{.status.phase}'=Running pod/web-0")
        self.name = "{." + (inner[1] or inner[2]) + "}"
        self.value = value.strip("\"'")
        self.any_value = not value
        jsonpath.evaluate(self.name, {})

    def holds(self, obj: Obj | None) -> bool:
        """True if it is so now."""
        if self.kind == "delete":
            return obj is None
        if obj is None:
            return False
        if self.kind == "create":
            return True
        return self._condition(obj) if self.kind == "condition" else self._jsonpath(obj)

    def _condition(self, obj: Obj) -> bool:
        """The condition has the value, and speaks of the newest generation."""
        status, generation = obj.get("status") or {}, obj["metadata"].get("generation", 0)
        for each in status.get("conditions") or []:
            if each.get("type", "").lower() == self.name.lower():
                observed = each.get("observedGeneration", status.get("observedGeneration"))
                if observed is not None and observed < generation:
                    return False
                return bool(each.get("status", "").lower() == self.value.lower())
        return False

    def _jsonpath(self, obj: Obj) -> bool:
        """The path has one value, the one asked for. Objects and lists have no value that could be compared."""
        found = jsonpath.evaluate(self.name, obj)
        if not found:
            return False
        if self.any_value:
            return True
        if len(found) > 1 or isinstance(found[0], dict | list):
            raise UsageError(f"jsonpath {self.name} names {'several values' if len(found) > 1 else 'an object or a list'}",
                             why="one number, text or truth value can be compared", try_=EXAMPLE)
        value = found[0]
        return (value if isinstance(value, str) else json.dumps(value)) == self.value
