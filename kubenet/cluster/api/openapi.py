"""OpenAPI v3 documents, one per group, made from the schema at the first request and then kept as bytes.

kubectl asks for them before it applies, creates or edits: a path whose PATCH has a `fieldValidation` parameter tells
it that the server validates. `explain` reads the schemas. The index names each document with a hash of its content,
because clients cache by URL. /openapi/v2 must be an *empty* 200: an empty protobuf message, which old kubectl needs
and new ones ignore; JSON there breaks `apply` for every version.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from kubenet.cluster.api import discovery, schema
from kubenet.cluster.api.kinds import SERVED, KindInfo

Obj = dict[str, Any]

V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def _paths() -> list[str]:
    return ["api/v1", *(f"apis/{group}/v1" for group in discovery.ALL_GROUPS)]


@cache
def index() -> bytes:
    """The body of /openapi/v3."""
    paths = {p: {"serverRelativeURL": f"/openapi/v3/{p}?hash={_hash(p)}"} for p in _paths()}
    return json.dumps({"paths": paths}, separators=(",", ":")).encode()


def _hash(path: str) -> str:
    body = document(path)
    return hashlib.blake2b(body or b"", digest_size=8).hexdigest()


@cache
def document(path: str) -> bytes | None:
    """The body of /openapi/v3/PATH (api/v1, apis/apps/v1), or None if there is no such group."""
    if path not in _paths():
        return None
    group = "" if path == "api/v1" else path.split("/")[1]
    infos = [info for info in SERVED if info.group == group]
    paths: Obj = {}
    names: list[str] = []
    for info in infos:
        paths.update(_kind_paths(info))
        names.append(schema.by_gvk()[(info.group, info.version, info.kind)])
    for _, kind, _ in discovery.REVIEWS.get(group, ()):
        names.append(schema.by_gvk()[(group, "v1", kind)])
    doc = {"openapi": "3.0.0", "info": {"title": "kubenet", "version": "v1.32"}, "paths": paths,
           "components": {"schemas": _closure(names)}}
    return json.dumps(doc, separators=(",", ":")).encode()


def _kind_paths(info: KindInfo) -> Obj:
    gvk = {"group": info.group, "version": info.version, "kind": info.kind}
    parameters = [{"name": n, "in": "query", "schema": {"type": "boolean" if n == "force" else "string"}}
                  for n in ("dryRun", "fieldManager", "fieldValidation", "force")]
    ok = {"200": {"description": "OK"}}

    def operation(action: str, params: bool) -> Obj:
        out: Obj = {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "responses": ok}
        if params:
            out["parameters"] = parameters
        return out

    one = info.path("{namespace}" if info.namespaced else "", "{name}")
    return {
        one.rpartition("/")[0]: {"get": operation("list", False), "post": operation("post", True)},
        one: {"get": operation("get", False), "put": operation("put", True), "patch": operation("patch", True),
              "delete": operation("delete", False)},
    }


def _closure(names: list[str]) -> Obj:
    """The definitions reachable from these, in the form of OpenAPI v3."""
    definitions = schema.definitions()
    out: Obj = {}
    todo = list(reversed(names))
    while todo:
        name = todo.pop()
        if name not in out:
            refs: list[str] = []
            out[name] = _v3(definitions[name], refs)
            todo.extend(reversed(refs))
    return out


def _v3(node: Any, refs: list[str]) -> Any:
    """A reference with siblings must be an allOf in OpenAPI v3."""
    if isinstance(node, list):
        return [_v3(x, refs) for x in node]
    if not isinstance(node, dict):
        return node
    ref = node.get("$ref")
    if isinstance(ref, str):
        refs.append(ref)
        target = {"$ref": f"#/components/schemas/{ref}"}
        rest = {k: v for k, v in node.items() if k != "$ref"}
        return {"allOf": [target], **rest} if rest else target
    return {k: _v3(v, refs) for k, v in node.items()}
