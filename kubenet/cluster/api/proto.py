"""Kubernetes' protobuf bodies, read: application/vnd.kubernetes.protobuf -> the object as JSON would have said it.

kubectl from 1.32 on, and every Go client of that age, sends the bodies of `create namespace` and its like only in this form,
with no fallback. Answers stay JSON for ever; clients accept that.

    envelope   "k8s\\0", then Unknown{1 TypeMeta{1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType}
    raw        the object's own message: proto2, nothing packed, maps as repeated {1 key, 2 value}

A generic decoder over a table of field numbers (proto-fields.json.xz, NOTICE.txt). Go emits every scalar that is not a pointer,
zero or not, and the wire does not tell which is which: zeros are dropped, except where KEEP_ZERO says that zero means something.

Errors are ApiError 400. Encoding is not needed. Source: apimachinery runtime/serializer/protobuf, the generated.proto files.
"""

from __future__ import annotations

import base64
import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

from kubenet.cluster.api.kinds import KINDS
from kubenet.cluster.api.status import ApiError, bad_request
from kubenet.cluster.store import rfc3339

Obj = dict[str, Any]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
MAX_DEPTH = 60

PACKAGES: dict[str, str] = {
    "": "core", "apps": "apps", "batch": "batch", "autoscaling": "autoscaling", "policy": "policy",
    "coordination.k8s.io": "coordination", "discovery.k8s.io": "discovery", "networking.k8s.io": "networking",
    "rbac.authorization.k8s.io": "rbac", "authorization.k8s.io": "authorization", "authentication.k8s.io": "authentication",
}
# pointers in Go, where zero or false is a value of its own
KEEP_ZERO = frozenset((
    "replicas", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished",
    "gracePeriodSeconds", "terminationGracePeriodSeconds", "expirationSeconds", "revisionHistoryLimit",
    "automountServiceAccountToken", "suspend", "immutable", "optional", "controller", "blockOwnerDeletion",
    "allowPrivilegeEscalation", "runAsUser", "runAsNonRoot", "readOnlyRootFilesystem", "privileged", "orphanDependents",
    "enableServiceLinks", "shareProcessNamespace", "allocateLoadBalancerNodePorts", "ready", "serving", "terminating",
))
# messages that JSON merges into their parent
INLINE = frozenset(("volumeSource", "handler", "ingressRuleValue", "localObjectReference", "ephemeralContainerCommon",
                    "persistentVolumeSource"))
RENAMED = {"aPIGroup": "apiGroup", "uID": "uid"}


class _Bad(Exception):
    """The bytes are no protobuf of this message."""


@cache
def _table() -> dict[str, dict[int, tuple[str, str, str]]]:
    """message -> field number -> (JSON name, "" or "[]" or "{}", type)."""
    packed = (Path(__file__).parent / "proto-fields.json.xz").read_bytes()
    out: dict[str, dict[int, tuple[str, str, str]]] = {}
    for message, fields in json.loads(lzma.decompress(packed)).items():
        rows: dict[int, tuple[str, str, str]] = {}
        for number, text in fields.items():
            name, _, type_ = text.partition(":")
            shape = name[-2:] if name.endswith(("[]", "{}")) else ""
            plain = name[:-2] if shape else name
            rows[int(number)] = (RENAMED.get(plain, plain), shape, type_ or "string")
        out[message] = rows
    return out


def decode(body: bytes, kind: str = "") -> Obj:
    """The object in the envelope. `kind` names the message if the envelope does not. ApiError 400."""
    if body[:4] != MAGIC:
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        unknown = _message("runtime.Unknown", body[4:], 0)
        meta = unknown.get("typeMeta") or {}
        api_version, kind = str(meta.get("apiVersion", "")), str(meta.get("kind", "")) or kind
        raw = base64.b64decode(unknown.get("raw", ""))
        out = _message(_message_name(api_version, kind), raw, 0)
    except (_Bad, UnicodeDecodeError, ValueError, OverflowError, OSError) as error:
        raise bad_request(f"error decoding protobuf: {error}") from None
    return {"apiVersion": api_version, "kind": kind, **out}


def _message_name(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    name = f"{PACKAGES.get(group, group)}.{version}.{kind}"
    if kind == "DeleteOptions":
        name = "meta.DeleteOptions"
    if name not in _table():
        known = kind in KINDS
        text = f'no kind "{kind}" is registered for version "{api_version}"' if not known else f"{name} is not known"
        raise ApiError(400, "BadRequest", text)
    return name


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise _Bad("unexpected EOF")


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """(field number, varint or bytes) of a message, in order of the wire."""
    out: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        else:
            if wire == 2:
                size, at = _varint(data, at)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise _Bad(f"illegal wireType {wire}")
            value = data[at:at + size]
            at += size
            if at > len(data):
                raise _Bad("unexpected EOF")
        out.append((tag >> 3, value))
    return out


def _message(name: str, data: bytes, depth: int) -> Obj:
    """The message as a JSON object."""
    if depth > MAX_DEPTH:
        raise _Bad("nested too deeply")
    rows = _table()[name]
    out: Obj = {}
    for number, value in _fields(data):
        row = rows.get(number)
        if row is None:
            continue                                        # from a newer client
        field, shape, type_ = row
        if shape == "{}":
            key, item = _map_entry(type_, value, depth)
            out.setdefault(field, {})[key] = item
            continue
        item = _value(type_, value, depth)
        if shape == "[]":
            out.setdefault(field, []).append(item)
        elif field in INLINE and isinstance(item, dict):
            out.update(item)
        elif item is not None and (item not in ("", 0, False) or field in KEEP_ZERO or isinstance(item, (dict, list))):
            out[field] = item
    return out


def _map_entry(type_: str, value: int | bytes, depth: int) -> tuple[str, Any]:
    key: Any = ""
    item: Any = {} if "." in type_ else ""
    for number, part in _fields(_bytes(value)):
        if number == 1:
            key = _bytes(part).decode()
        elif number == 2:
            item = _value(type_, part, depth)
    return str(key), item


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Bad("wrong wireType = 0")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise _Bad("wrong wireType = 2")
    return value - (1 << 64) if value >> 63 else value


def _value(type_: str, value: int | bytes, depth: int) -> Any:
    """One value as JSON says it. None for what means "absent"."""
    if type_ == "string":
        return _bytes(value).decode()
    if type_ in ("int32", "int64"):
        return _int(value)
    if type_ == "bool":
        return bool(_int(value))
    data = _bytes(value)
    if type_ == "bytes":
        return base64.b64encode(data).decode()
    return _special(type_, data, depth)


def _special(type_: str, data: bytes, depth: int) -> Any:
    """Messages whose JSON form is not an object, and those whose is."""
    if type_ in ("meta.Time", "meta.MicroTime"):
        parts = dict(_fields(data))
        seconds, nanos = _int(parts.get(1, 0)), _int(parts.get(2, 0))
        if not data or 1 not in parts:
            return None
        text = rfc3339(seconds)
        return text if type_ == "meta.Time" else f"{text[:-1]}.{nanos // 1000:06d}Z"
    if type_ == "api.resource.Quantity":
        return _bytes(dict(_fields(data)).get(1, b"")).decode()
    if type_ == "util.intstr.IntOrString":
        parts = dict(_fields(data))
        return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _int(parts.get(2, 0))
    if type_ in ("runtime.RawExtension", "meta.FieldsV1"):
        raw = _bytes(dict(_fields(data)).get(1, b""))
        return json.loads(raw) if raw else None
    if type_.endswith((".ExtraValue", ".Verbs")):
        return [_bytes(v).decode() for n, v in _fields(data) if n == 1]
    if type_ not in _table():
        return None
    return _message(type_, data, depth + 1)
