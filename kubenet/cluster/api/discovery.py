"""Discovery documents: which groups, versions and resources there are, in the aggregated and in the legacy form.

Clients recognise the aggregated form by its Content-Type alone, so the caller must send AGGREGATED_TYPE exactly. The
legacy form stays in use beside it (`auth can-i`, `drain`, kr8s). Everything is made from kinds.py; the extra resources
here are the ones that are answered without being stored (reviews, scale, eviction, pod streams).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kubenet.cluster.api.kinds import GROUPS, SERVED, VERBS, KindInfo

Obj = dict[str, Any]

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# (plural, Kind, namespaced) answered by POST alone, per group
REVIEWS: dict[str, list[tuple[str, str, bool]]] = {
    "authentication.k8s.io": [("selfsubjectreviews", "SelfSubjectReview", False)],
    "authorization.k8s.io": [
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ],
}
ALL_GROUPS = sorted([*GROUPS[1:], *REVIEWS])

_UPDATE = ["get", "patch", "update"]
_SCALE = ("scale", "autoscaling", "v1", "Scale", _UPDATE)
_POD_SUBS: list[tuple[str, str, str, str, list[str]]] = [
    ("attach", "", "v1", "PodAttachOptions", ["create", "get"]),
    ("binding", "", "v1", "Binding", ["create"]),
    ("ephemeralcontainers", "", "v1", "Pod", _UPDATE),
    ("eviction", "policy", "v1", "Eviction", ["create"]),
    ("exec", "", "v1", "PodExecOptions", ["create", "get"]),
    ("log", "", "v1", "Pod", ["get"]),
    ("portforward", "", "v1", "PodPortForwardOptions", ["create", "get"]),
]


def subresources(info: KindInfo) -> list[tuple[str, str, str, str, list[str]]]:
    """(name, group, version, kind, verbs) of each subresource."""
    out = list(_POD_SUBS) if info.kind == "Pod" else []
    if info.kind == "Namespace":
        out.append(("finalize", "", "v1", "Namespace", ["update"]))
    if info.scale:
        out.append(_SCALE)
    if info.status:
        out.append(("status", info.group, info.version, info.kind, _UPDATE))
    return sorted(out)


@cache
def aggregated(core: bool) -> Obj:
    """APIGroupDiscoveryList: for /api the core group, for /apis all others."""
    items = [_group("")] if core else [_group(g) for g in ALL_GROUPS]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _group(group: str) -> Obj:
    resources = [_resource(info) for info in SERVED if info.group == group]
    for plural, kind, namespaced in REVIEWS.get(group, ()):
        resources.append({
            "resource": plural, "responseKind": {"group": group, "version": "v1", "kind": kind},
            "scope": "Namespaced" if namespaced else "Cluster", "singularResource": kind.lower(), "verbs": ["create"]})
    versions = [{"version": "v1", "resources": resources, "freshness": "Current"}]
    return {"metadata": {"name": group} if group else {}, "versions": versions}


def _resource(info: KindInfo) -> Obj:
    out: Obj = {
        "resource": info.plural, "responseKind": {"group": info.group, "version": info.version, "kind": info.kind},
        "scope": "Namespaced" if info.namespaced else "Cluster", "singularResource": info.singular, "verbs": list(VERBS),
    }
    if info.short:
        out["shortNames"] = list(info.short)
    if info.categories:
        out["categories"] = list(info.categories)
    subs = subresources(info)
    if subs:
        out["subresources"] = [
            {"subresource": name, "responseKind": {"group": g, "version": v, "kind": k}, "verbs": verbs}
            for name, g, v, k, verbs in subs
        ]
    return out


def api_versions() -> Obj:
    """Legacy /api."""
    return {"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443"}]}


def api_group(name: str) -> Obj:
    """Legacy /apis/GROUP."""
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version}


def api_group_list() -> Obj:
    """Legacy /apis."""
    groups = [{k: v for k, v in api_group(g).items() if k not in ("kind", "apiVersion")} for g in ALL_GROUPS]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


@cache
def api_resource_list(group: str) -> Obj:
    """Legacy /api/v1 and /apis/GROUP/v1."""
    out: list[Obj] = []
    for info in SERVED:
        if info.group != group:
            continue
        entry: Obj = {"name": info.plural, "singularName": info.singular, "namespaced": info.namespaced, "kind": info.kind,
                      "verbs": list(VERBS)}
        if info.short:
            entry["shortNames"] = list(info.short)
        if info.categories:
            entry["categories"] = list(info.categories)
        out.append(entry)
        for name, g, v, kind, verbs in subresources(info):
            sub: Obj = {"name": f"{info.plural}/{name}", "singularName": "", "namespaced": info.namespaced, "kind": kind,
                        "verbs": verbs}
            if g != info.group:
                sub["group"], sub["version"] = g, v
            out.append(sub)
    for plural, kind, namespaced in REVIEWS.get(group, ()):
        out.append({"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": ["create"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/v1" if group else "v1", "resources": out}
