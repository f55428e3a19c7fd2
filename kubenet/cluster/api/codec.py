"""Request bodies in, response bodies out: JSON and YAML, media types, duplicate keys.

Responses are always JSON. Bodies may be JSON, YAML (server-side apply says YAML and sends JSON) or Kubernetes' protobuf
(proto.py). CBOR is answered with 415; clients fall back to JSON for it.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from kubenet.cluster.api.status import ApiError, bad_request, unsupported_media

Obj = dict[str, Any]

JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml")
PROTOBUF = "application/vnd.kubernetes.protobuf"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_LOADER):  # type: ignore[misc]
    """Safe YAML without timestamps: 2026-01-01 stays the text that was written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _LOADER.yaml_implicit_resolvers.items()
}


def media_type(headers: dict[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def decode_body(headers: dict[str, str], body: bytes, duplicates: list[str]) -> Any:
    """The parsed body. Duplicate JSON keys are added to `duplicates`. ApiError 400 or 415."""
    kind = media_type(headers)
    if kind in ("", "application/json", "*/*") or kind in PATCH_TYPES[:3]:
        return parse_json(body, duplicates)
    if kind in ("application/yaml", "application/apply-patch+yaml", "text/yaml", "application/x-yaml"):
        return parse_yaml(body, duplicates)
    if kind == PROTOBUF:
        from kubenet.cluster.api import proto

        return proto.decode(body)
    known = f"application/json, application/yaml, {PROTOBUF}"
    raise unsupported_media(f"the body of the request was in an unknown format - accepted media types include: {known}")


def parse_json(body: bytes, duplicates: list[str]) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> Obj:
        out: Obj = {}
        for key, value in items:
            if key in out:
                duplicates.append(key)
            out[key] = value
        return out

    if not body.strip():
        return {}
    try:
        return json.loads(body, object_pairs_hook=pairs, parse_constant=_no_constant)
    except RecursionError:
        raise bad_request("couldn't get version/kind; json parse error: exceeded max depth") from None
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"invalid character '{name[0]}' looking for beginning of value")


def parse_yaml(body: bytes, duplicates: list[str]) -> Any:
    if body.lstrip()[:1] == b"{":
        try:
            return parse_json(body, duplicates)
        except ApiError:
            pass                                             # a YAML flow mapping that is not JSON
    try:
        return yaml.load(body, _Loader)  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise bad_request(f"error decoding YAML: {str(error).splitlines()[0]}") from None


def encode(obj: Any) -> bytes:
    """Compact JSON with a final newline, as the API server writes it."""
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def accepts(headers: dict[str, str]) -> tuple[str, str]:
    """(form, kind): form is "table", "partial", "aggregated" or ""; the first understood choice of Accept wins. 406 if none."""
    accept = headers.get("accept", "")
    if not accept:
        return "", ""
    for choice in accept.split(","):
        parts = [p.strip() for p in choice.split(";")]
        params = dict(p.split("=", 1) for p in parts[1:] if "=" in p)
        if parts[0] in ("application/json", "*/*", "application/*"):
            as_ = params.get("as", "")
            if as_ == "Table" and params.get("g") == "meta.k8s.io":
                return "table", as_
            if as_ in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return "partial", as_
            if as_ == "APIGroupDiscoveryList":
                if params.get("v") == "v2":
                    return "aggregated", as_
                continue
            if not as_:
                return "", ""
    if any(t in accept for t in ("application/json", "*/*", "application/yaml", "protobuf", "text/")):
        return "", ""
    known = "application/json, application/yaml"
    raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {known}")


def truth(text: str | None) -> bool:
    """A boolean query parameter: absent, "", "0" and "false" are false."""
    return text is not None and text.lower() not in ("", "0", "false", "f")
