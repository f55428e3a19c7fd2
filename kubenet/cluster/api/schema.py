"""The schema of every kind, compiled to small nodes on first use.

Source: schema-1.32.json.xz, the published OpenAPI definitions of the kinds we serve with every `x-kubernetes-*`
extension (NOTICE.txt; tests/tools/make_schema.py), and topology.py for kubenet's own kind. One file therefore drives
pruning, type checks, required fields, strategic merge keys, server-side apply and the OpenAPI documents.

    node = schema_of("Service")            a Node for the whole object
    clean(node, body, issues)              the body without unknown fields and nulls; issues tell what was wrong

Decompressing and parsing takes 3 ms, compiling a kind well under one: only the structs that a body touches are
compiled.

Type errors are worded as Go's decoder words them, because kubectl shows that text:
`json: cannot unmarshal number into Go struct field ConfigMap.data of type string`.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

Obj = dict[str, Any]

OBJECT, MAP, LIST, STRING, INT, NUMBER, BOOL, ANY, INT_OR_STRING, QUANTITY, TIME = range(11)
_SCALARS = {"string": STRING, "integer": INT, "number": NUMBER, "boolean": BOOL}
_GO_SCALARS = {STRING: "string", BOOL: "bool", NUMBER: "float64", INT_OR_STRING: "intstr.IntOrString",
               QUANTITY: "resource.Quantity", TIME: "v1.Time", ANY: "v1.FieldsV1"}
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SPECIAL = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    _META + "Time": TIME, _META + "MicroTime": TIME, _META + "FieldsV1": ANY,
}


class Node:
    """The type of one value. `fields` of an OBJECT are compiled when first asked for."""

    __slots__ = ("kind", "struct", "item", "required", "format", "list_type", "map_keys", "atomic", "patch_strategy",
                 "patch_key", "_raw", "_fields")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.struct = ""                        # Go's name of the struct: ServicePort
        self.item: Node | None = None           # of a LIST or MAP
        self.required: tuple[str, ...] = ()
        self.format = ""
        self.list_type = "atomic"               # atomic, set, map
        self.map_keys: tuple[str, ...] = ()
        self.atomic = False                     # map-type atomic: one leaf for server-side apply
        self.patch_strategy: tuple[str, ...] = ()
        self.patch_key = ""
        self._raw: Obj = {}
        self._fields: dict[str, Node] | None = None

    @property
    def fields(self) -> dict[str, Node]:
        """Field name -> Node, for an OBJECT."""
        if self._fields is None:
            self._fields = {name: _compile(sub) for name, sub in self._raw.get("properties", {}).items()}
        return self._fields

    def go_type(self) -> str:
        """The type as Go prints it in decoding errors."""
        if self.kind == INT:
            return self.format or "int64"
        if self.kind == LIST and self.item:
            return "[]" + self.item.go_type()
        if self.kind == MAP and self.item:
            return "map[string]" + self.item.go_type()
        if self.kind == OBJECT:
            return "v1." + self.struct
        return _GO_SCALARS[self.kind]


@cache
def definitions() -> dict[str, Obj]:
    """Every definition by its full name, in OpenAPI form (references are bare names)."""
    packed = (Path(__file__).parent / "schema-1.32.json.xz").read_bytes()
    return dict(json.loads(lzma.decompress(packed))["definitions"])


@cache
def by_gvk() -> dict[tuple[str, str, str], str]:
    """(group, version, kind) -> definition name."""
    out: dict[tuple[str, str, str], str] = {}
    for name, definition in definitions().items():
        for gvk in definition.get("x-kubernetes-group-version-kind", ()):
            out[(gvk["group"], gvk["version"], gvk["kind"])] = name
    return out


@cache
def schema_of(kind: str, group: str = "", version: str = "v1") -> Node:
    """The Node of a served kind, or of (group, version, kind) for the others. KeyError if unknown."""
    from kubenet.cluster.api.kinds import KINDS

    info = KINDS.get(kind)
    if kind == "Topology":
        from kubenet.cluster.api.topology import TOPOLOGY_SCHEMA

        return _struct("Topology", TOPOLOGY_SCHEMA)
    if info and not group:
        group, version = info.group, info.version
    return named(by_gvk()[(group, version, kind)])


@cache
def named(name: str) -> Node:
    """The Node of a definition, shared by all who refer to it."""
    if name in _SPECIAL:
        return Node(_SPECIAL[name])
    return _struct(name.rsplit(".", 1)[1], definitions()[name])


def _struct(struct: str, raw: Obj) -> Node:
    node = _compile(raw)
    node.struct = struct
    return node


def _compile(raw: Obj) -> Node:
    """The Node of one property or definition. A reference with its own extensions gets its own Node."""
    ref = raw.get("$ref")
    if ref:
        base = named(ref)
        if len(raw) == 1 or not any(k.startswith("x-kubernetes") for k in raw):
            return base
        node = Node(base.kind)
        for slot in ("struct", "item", "required", "format", "_raw", "_fields", "atomic"):
            setattr(node, slot, getattr(base, slot))
    else:
        node = Node(_kind_of(raw))
        node.format = raw.get("format", "")
        node.required = tuple(raw.get("required", ()))
        node._raw = raw
        if node.kind == LIST:
            node.item = _compile(raw.get("items", {}))
        elif node.kind == MAP:
            node.item = _compile(raw["additionalProperties"])
    node.list_type = raw.get("x-kubernetes-list-type", node.list_type)
    node.map_keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
    node.atomic = node.atomic or raw.get("x-kubernetes-map-type") == "atomic"
    node.patch_strategy = tuple(filter(None, raw.get("x-kubernetes-patch-strategy", "").split(",")))
    node.patch_key = raw.get("x-kubernetes-patch-merge-key", "")
    return node


def _kind_of(raw: Obj) -> int:
    kind = raw.get("type")
    if kind == "object":
        if "properties" in raw:
            return OBJECT
        return MAP if isinstance(raw.get("additionalProperties"), dict) else ANY
    if kind == "array":
        return LIST
    if raw.get("format") == "int-or-string":
        return INT_OR_STRING
    return _SCALARS.get(str(kind), ANY)


class Issues:
    """What clean() found: unknown fields by path, type errors (path, Go text), missing required fields by path."""

    __slots__ = ("unknown", "types", "missing")

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.types: list[tuple[str, str]] = []
        self.missing: list[str] = []


def clean(node: Node, value: Any, issues: Issues, path: str = "", struct: str = "", go_path: str = "") -> Any:
    """The value without unknown fields and without nulls (which mean "absent"); `issues` gets the findings.

    struct and go_path name the place as Go's decoder does: innermost struct, dotted path without indices.
    """
    kind = node.kind
    if kind == OBJECT and isinstance(value, dict):
        return _clean_object(node, value, issues, path, go_path)
    if kind == LIST and isinstance(value, list) and node.item is not None:
        return [
            clean(node.item, v, issues, f"{path}[{i}]", struct, go_path)
            for i, v in enumerate(value) if v is not None
        ]
    if kind == MAP and isinstance(value, dict) and node.item is not None:
        item = node.item
        return {
            k: clean(item, v, issues, f"{path}.{k}", struct, go_path)
            for k, v in value.items() if v is not None or item.kind == STRING and v is not None
        }
    if kind == ANY or _scalar_fits(kind, value, node.format):
        return value
    where = f"{struct}.{go_path}" if go_path else struct
    text = f"json: cannot unmarshal {_json_type(value)} into Go struct field {where} of type {node.go_type()}"
    issues.types.append((path, text))
    return value


def _clean_object(node: Node, value: Obj, issues: Issues, path: str, go_path: str) -> Obj:
    out: Obj = {}
    fields = node.fields
    for name, sub in value.items():
        field = fields.get(name)
        here = f"{path}.{name}" if path else str(name)
        if field is None:
            issues.unknown.append(here)
        elif sub is not None:
            out[name] = clean(field, sub, issues, here, node.struct, f"{go_path}.{name}" if go_path else name)
    for name in node.required:
        if name not in out:
            issues.missing.append(f"{path}.{name}" if path else name)
    return out


def _scalar_fits(kind: int, value: Any, fmt: str) -> bool:
    if kind in (STRING, TIME):
        return isinstance(value, str)
    if kind == BOOL:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind == INT:
        limit = 31 if fmt == "int32" else 63
        return isinstance(value, int) and -(1 << limit) <= value < 1 << limit
    if kind == NUMBER:
        return isinstance(value, (int, float))
    if kind == INT_OR_STRING:
        return isinstance(value, str) or isinstance(value, int) and -(1 << 31) <= value < 1 << 31
    return kind == QUANTITY and isinstance(value, (str, int, float))


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return f"number {value}" if isinstance(value, float) or abs(value) >= 1 << 31 else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def node_at(node: Node, steps: list[str]) -> Node | None:
    """The Node of the field a person writes as a.b.c (list indices left out), or None if there is no such field."""
    here: Node | None = node
    for step in steps:
        while here is not None and here.kind == LIST:
            here = here.item
        if here is None:
            return None
        if here.kind == OBJECT:
            here = here.fields.get(step)
        elif here.kind == MAP:
            here = here.item
        else:
            return None
    return here
