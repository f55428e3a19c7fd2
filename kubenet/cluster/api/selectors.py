"""Label and field selectors: parsing and matching.

Labels: `a=b`, `a==b`, `a!=b`, `a in (x,y)`, `a notin (x)`, `a`, `!a`; commas mean "and". `!=` and `notin` also match
objects that lack the key. Fields: `metadata.name=web,status.phase!=Succeeded`; each kind has its own short list, and
anything else is refused with the server's words. An empty wanted value matches an absent field.

A parsed selector is a list of requirements `(key, operator, values)`; matching is a plain function, so that stores and
controllers can share it. The label syntax errors are those of apimachinery's labels package, abridged.
"""

from __future__ import annotations

import re
from typing import Any

from kubenet.cluster.api.status import ApiError, bad_request

Obj = dict[str, Any]
Requirement = tuple[str, str, tuple[str, ...]]       # operators: = != in notin exists !exists

_TERM = re.compile(
    r"\s*(?:(?P<not>!)\s*(?P<nkey>[^\s=!,()]+)"
    r"|(?P<key>[^\s=!,()]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s,()=!]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)

FIELD_LABELS: dict[str, tuple[str, ...]] = {
    "Pod": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
            "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Secret": ("type",),
    "Service": ("spec.clusterIP", "spec.type"),
    "ReplicaSet": ("status.replicas",),
    "Job": ("status.successful",),
    "Event": ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
              "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
              "type", "source", "reportingComponent", "reportingController"),
}


def parse_label_selector(text: str) -> list[Requirement]:
    """Requirements of a label selector string; an empty one matches everything. Raises ApiError 400."""
    out: list[Requirement] = []
    at = 0
    while at < len(text.rstrip()):
        term = _TERM.match(text, at)
        if not term or term.end() == at:
            raise bad_request(f'unable to parse requirement: found \'{text[at:]}\', expected: identifier')
        at = term.end()
        if term["not"]:
            out.append((term["nkey"], "!exists", ()))
        elif term["op"]:
            out.append((term["key"], "!=" if term["op"] == "!=" else "=", (term["value"],)))
        elif term["set"]:
            out.append((term["key"], term["set"], tuple(v.strip() for v in term["values"].split(","))))
        else:
            out.append((term["key"], "exists", ()))
    return out


def matches(requirements: list[Requirement], labels: dict[str, str] | None) -> bool:
    """True if the labels satisfy every requirement."""
    have = labels or {}
    for key, op, values in requirements:
        if op == "=" or op == "in":
            ok = key in have and have[key] in values
        elif op == "!=" or op == "notin":
            ok = key not in have or have[key] not in values
        elif op == "exists":
            ok = key in have
        else:
            ok = key not in have
        if not ok:
            return False
    return True


def from_label_selector(selector: Obj | None) -> list[Requirement] | None:
    """Requirements of a LabelSelector object (matchLabels, matchExpressions). None for no selector: matches nothing."""
    if selector is None:
        return None
    out: list[Requirement] = [(k, "=", (str(v),)) for k, v in (selector.get("matchLabels") or {}).items()]
    ops = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!exists"}
    for expr in selector.get("matchExpressions") or []:
        out.append((expr["key"], ops[expr["operator"]], tuple(expr.get("values") or ())))
    return out


def label_text(requirements: list[Requirement]) -> str:
    """The selector as a string, as tables and `status.selector` of a Scale print it."""
    parts = []
    for key, op, values in requirements:
        if op in ("=", "!="):
            parts.append(f"{key}{op}{values[0]}")
        elif op in ("in", "notin"):
            parts.append(f"{key} {op} ({','.join(sorted(values))})")
        else:
            parts.append(key if op == "exists" else f"!{key}")
    return ",".join(parts)


def parse_field_selector(text: str, kind: str) -> list[Requirement]:
    """Requirements of a field selector string. Raises ApiError 400 for syntax and for fields the kind does not offer."""
    out: list[Requirement] = []
    for part in text.split(","):
        if not part.strip():
            continue
        for op in ("!=", "==", "="):
            field, found, value = part.partition(op)
            if found:
                break
        else:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        field = field.strip()
        if field not in ("metadata.name", "metadata.namespace") and field not in FIELD_LABELS.get(kind, ()):
            raise unsupported_field(field)
        out.append((field, "!=" if op == "!=" else "=", (value.strip(),)))
    return out


def unsupported_field(field: str) -> ApiError:
    return bad_request(f"field label not supported: {field}")


def field_value(obj: Obj, field: str) -> str:
    """The text of a field for a selector; "" when it is absent."""
    if field == "source":
        return str((obj.get("source") or {}).get("component", "") or obj.get("reportingComponent", ""))
    if field == "reportingController":
        field = "reportingComponent"
    value: Any = obj
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if field == "status.podIPs":
        return ",".join(ip.get("ip", "") for ip in value or [])
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def fields_match(requirements: list[Requirement], obj: Obj) -> bool:
    """True if the object's fields satisfy every requirement."""
    return all((field_value(obj, f) == v[0]) == (op == "=") for f, op, v in requirements)
