"""Protobuf request bodies, against a body captured from kubectl and against the wire rules of protocol buffers."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.api import schema
from kubenet.cluster.api.kinds import SERVED
from kubenet.cluster.api.proto import INLINE, MEDIA_TYPE, PACKAGES, _table, decode
from kubenet.cluster.api.status import ApiError

# the 53 bytes that `kubectl create ns p1` (1.32) sends
CAPTURED = bytes.fromhex(
    "6b387300" "0a0f0a02763112094e616d657370616365" "121a" "0a120a02703112001a0022002a00320038004200" "1200" "1a020a00"
    "1a002200")


def field(number: int, value: int | bytes) -> bytes:
    """One field on the wire."""
    def varint(n: int) -> bytes:
        n &= (1 << 64) - 1
        out = bytearray()
        while True:
            out.append(n & 0x7F | (0x80 if n > 0x7F else 0))
            n >>= 7
            if not n:
                return bytes(out)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, api_version.encode()) + field(2, kind.encode())
    return b"k8s\0" + field(1, meta) + field(2, raw)


def test_the_captured_namespace() -> None:
    assert decode(CAPTURED) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "p1"}, "spec": {}, "status": {}}


def test_it_creates_the_namespace(cp: ControlPlane) -> None:
    made = cp.ok("POST", "/api/v1/namespaces", CAPTURED, kind=MEDIA_TYPE, fieldValidation="Strict")
    assert made["metadata"]["name"] == "p1" and made["status"] == {"phase": "Active"}


def test_the_odd_ones() -> None:
    """Zero replicas mean zero, IntOrString both ways, inlined volume sources, quantities, maps, negative numbers."""
    quantity = field(1, b"100m")
    container = (field(1, b"c") + field(2, b"i") + field(8, field(1, field(1, b"cpu") + field(2, quantity)))
                 + field(6, field(1, b"") + field(2, 0) + field(3, 80)))
    volume = field(1, b"v") + field(2, field(2, b""))
    spec = field(1, volume) + field(2, container) + field(4, 0)
    deployment = field(1, field(1, b"d") + field(11, field(1, b"a") + field(2, b"b"))) + field(2, field(1, 0) + field(
        3, field(2, spec)) + field(4, field(1, b"RollingUpdate") + field(2, field(1, field(1, 1) + field(3, b"25%")) + field(
            2, field(1, 0) + field(2, 3)))))
    assert decode(envelope("apps/v1", "Deployment", deployment)) == {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"replicas": 0,
                 "template": {"spec": {
                     "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0,
                     "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m"}},
                                     "ports": [{"containerPort": 80}]}]}},
                 "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 3}}}}


def test_bytes_and_times() -> None:
    secret = field(1, field(1, b"s") + field(8, field(1, 1_767_225_600))) + field(2, field(1, b"k") + field(2, b"v\0"))
    assert decode(envelope("v1", "Secret", secret)) == {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "data": {"k": "dgA="}}


def test_fields_of_newer_clients_are_passed_over() -> None:
    assert decode(envelope("v1", "ConfigMap", field(1, field(1, b"a")) + field(900, b"new") + field(901, 7)))["metadata"] == {
        "name": "a"}


@pytest.mark.parametrize("body", [
    b"", b"{}", b"k8s\0", b"k8s\0\xff\xff", CAPTURED[:40], envelope("v1", "Nope", b""), envelope("v1", "ConfigMap", b"\x0b"),
    envelope("v1", "ConfigMap", field(1, 5)), envelope("v1", "ConfigMap", field(1, field(1, b"\xff"))),
    envelope("v1", "ConfigMap", b"\x0a\xff\x01")])
def test_what_is_no_such_message_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(ApiError) as error:
        decode(body)
    assert error.value.code == 400


@given(st.binary(max_size=60), st.sampled_from(SERVED))
def test_any_bytes(raw: bytes, info: Any) -> None:
    for body in (raw, b"k8s\0" + raw, envelope(info.api_version, info.kind, raw)):
        try:
            decode(body)
        except ApiError as error:
            assert error.code == 400


def test_the_table_and_the_schema_know_the_same_fields() -> None:
    """Two independent sources: every field of our schema has a number in the table of its message."""
    definitions = schema.definitions()
    packages = {group.partition(".")[0] or "core": package for group, package in PACKAGES.items()}
    checked = 0
    for name, definition in definitions.items():
        parts = name.split(".")
        message = f"{packages.get(parts[3], parts[3])}.{parts[-2]}.{parts[-1]}" if name.startswith("io.k8s.api.") else (
            f"meta.{parts[-1]}" if ".meta.v1." in name else "")
        if message not in _table() or "properties" not in definition:
            continue
        known: dict[str, None] = {}
        for field_name, _, type_ in _table()[message].values():
            known[field_name] = None
            if field_name in INLINE:
                known.update(dict.fromkeys(n for n, _, _ in _table()[type_].values()))
        missing = [f for f in definition["properties"] if f not in known and f not in ("apiVersion", "kind")]
        assert not missing, (message, missing)
        checked += 1
    assert checked > 150
