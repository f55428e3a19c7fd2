"""The API: Kubernetes' REST routes as one function.

    Api(store, clock, ...)
    .request(method, path, query, headers, body) -> Response     everything but watches and streams
    .watch(path, query, headers) -> WatchStream                  pulled by the front
    .apply(obj, ...) -> (object, verb, warnings)                 the same write path, in process

Pure in the sense that matters: no sockets, no clock but the store's, no threads. The HTTP front (server/) only moves
bytes; exec, attach, log and port-forward are its own, since they need the kubelet. Every refusal is an ApiError
(status.py) and leaves as a `Status` body; findings that do not refuse leave as `Warning` headers.

Reads are here; writes are in write.py; the shape of answers (Table, PartialObjectMetadata, List) in `render_one`, `list_all`.
simplified: `limit` pages over the present, not over a snapshot; `resourceVersion` on a read means "now".
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from kubenet.cluster.api import codec, discovery, openapi, selectors, table
from kubenet.cluster.api.admission import Admission
from kubenet.cluster.api.kinds import BY_PLURAL, GROUPS, KINDS, KindInfo
from kubenet.cluster.api.status import ApiError, bad_request, expired, method_not_allowed, no_such_path, not_found
from kubenet.cluster.store import DELETED, Clock, Event, Key, Store, Watch

Obj = dict[str, Any]
Query = dict[str, list[str]]

VERSION: Obj = {
    "major": "1", "minor": "32", "gitVersion": "v1.32.4+kubenet", "gitCommit": "", "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.23", "compiler": "gc", "platform": "linux/amd64",
}


@dataclass(slots=True)
class Response:
    """One HTTP answer. `headers` is a list, because Warning may come several times."""

    code: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(slots=True)
class Route:
    """What a path names: a kind, perhaps a namespace, an object and a subresource."""

    info: KindInfo
    namespace: str = ""
    name: str = ""
    sub: str = ""

    @property
    def key(self) -> Key:
        return self.namespace, self.name


@dataclass(slots=True)
class Request:
    """One request on its way through the API, with the warnings it has gathered."""

    method: str
    query: Query
    headers: dict[str, str]
    body: bytes
    warnings: list[str] = field(default_factory=list)

    def first(self, name: str) -> str:
        values = self.query.get(name)
        return values[0] if values else ""

    @property
    def manager(self) -> str:
        """Who writes: ?fieldManager=, else the User-Agent up to its first slash."""
        return self.first("fieldManager") or self.headers.get("user-agent", "").partition("/")[0][:128] or "unknown"

    @property
    def dry_run(self) -> bool:
        values = self.query.get("dryRun", [])
        bad = [v for v in values if v not in ("All", "")]
        if bad:
            raise bad_request(f'invalid dryRun value: "{bad[0]}"; supported values: "All"')
        return "All" in values

    @property
    def validation(self) -> str:
        """Strict, Warn or Ignore."""
        value = self.first("fieldValidation") or "Warn"
        if value not in ("Strict", "Warn", "Ignore"):
            raise bad_request(f'fieldValidation: Unsupported value: "{value}": supported values: "Ignore", "Strict", "Warn"')
        return value


class Api:
    """The API server's semantics over one store."""

    def __init__(
        self, store: Store, clock: Clock | None = None, epoch_s: int = 0, seed: int = 0, service_cidr: str = "10.96.0.0/16"
    ) -> None:
        self.store = store
        self.clock = clock or store.clock
        self.epoch_s = epoch_s or store.epoch_s
        self.seed = seed
        self.admission = Admission(store, service_cidr)

    @property
    def now_s(self) -> int:
        return self.epoch_s + self.clock.now // 1_000_000_000

    # -- the two doors ------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, query: Query | None = None, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """The answer to one request; errors are answers too."""
        req = Request(method.upper(), query or {}, {k.lower(): v for k, v in (headers or {}).items()}, body)
        try:
            answer = self._document(req, path)
            if answer is None:
                answer = self._resource(req, parse_route(path))
        except ApiError as error:
            answer = Response(error.code, [("Content-Type", "application/json"), *error.headers], codec.encode(error.status()))
        for text in dict.fromkeys(req.warnings):
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            answer.headers.append(("Warning", f'299 - "{quoted}"'))
        return answer

    def watch(self, path: str, query: Query, headers: dict[str, str] | None = None) -> WatchStream:
        """A stream of events for ?watch=true on a list path, or on one object. ApiError before it starts."""
        req = Request("GET", query, {k.lower(): v for k, v in (headers or {}).items()}, b"")
        route = parse_route(path)
        if route.sub or route.info.kind not in KINDS:
            raise no_such_path()
        return WatchStream(self, route, req)

    def apply(self, obj: Obj, manager: str = "kubenet", force: bool = True, dry_run: bool = False) -> tuple[Obj, str, list[str]]:
        """(object, "created" | "configured" | "unchanged", warnings) after server-side apply in this process. ApiError."""
        from kubenet.cluster.api import write

        return write.apply_in_process(self, obj, manager, force, dry_run)

    # -- documents ----------------------------------------------------------------------------------------------------

    def _document(self, req: Request, path: str) -> Response | None:
        """The answer for paths that are not objects; None for the rest."""
        path = path.rstrip("/") or "/"
        if path in ("/healthz", "/livez", "/readyz"):
            return Response(200, [("Content-Type", "text/plain; charset=utf-8")], b"ok")
        if path == "/openapi/v2":
            return Response(200, [("Content-Type", openapi.V2_TYPE)], b"")
        if path == "/openapi/v3":
            return Response(200, [("Content-Type", "application/json")], openapi.index())
        if path.startswith("/openapi/v3/"):
            doc = openapi.document(path[len("/openapi/v3/"):])
            if doc is None:
                raise no_such_path()
            return Response(200, [("Content-Type", "application/json")], doc)
        if path == "/version":
            return respond(200, VERSION)
        if path in ("/api", "/apis"):
            form, _ = codec.accepts(req.headers)
            if form == "aggregated":
                body = codec.encode(discovery.aggregated(path == "/api"))
                return Response(200, [("Content-Type", discovery.AGGREGATED_TYPE), ("Vary", "Accept")], body)
            legacy = discovery.api_versions() if path == "/api" else discovery.api_group_list()
            return Response(200, [("Content-Type", "application/json"), ("Vary", "Accept")], codec.encode(legacy))
        if path == "/":
            return respond(200, {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz",
                                           "/version"]})
        return self._group_document(path)

    def _group_document(self, path: str) -> Response | None:
        parts = path.strip("/").split("/")
        if parts == ["api", "v1"]:
            return respond(200, discovery.api_resource_list(""))
        if parts[0] != "apis" or len(parts) > 3:
            return None
        if parts[1] not in discovery.ALL_GROUPS or len(parts) == 3 and parts[2] != "v1":
            raise no_such_path()
        if len(parts) == 2:
            return respond(200, discovery.api_group(parts[1]))
        return respond(200, discovery.api_resource_list(parts[1]))

    # -- objects ------------------------------------------------------------------------------------------------------

    def _resource(self, req: Request, route: Route | None) -> Response:
        from kubenet.cluster.api import write

        if route is None:
            raise no_such_path()
        if req.method in ("GET", "HEAD"):
            return self._read(req, route)
        return write.handle(self, req, route)

    def _read(self, req: Request, route: Route) -> Response:
        if route.info.kind not in KINDS:
            raise method_not_allowed()                          # reviews are only asked by POST
        if not route.name:
            return self.list_all(req, route)
        if route.sub == "scale" and route.info.scale:
            return respond(200, scale_of(route.info, self.store.must_get(route.info.kind, route.key)))
        if route.sub and not (route.sub == "status" and route.info.status or route.sub == "ephemeralcontainers"):
            raise no_such_path()
        obj = self.store.must_get(route.info.kind, route.key)
        return self.render_one(req, route.info, obj, 200)

    def render_one(self, req: Request, info: KindInfo, obj: Obj, code: int) -> Response:
        """One object in the form the client asked for."""
        form, _ = codec.accepts(req.headers)
        if form == "table":
            include = req.first("includeObject") or "Metadata"
            return respond(code, table.table(info, [obj], self.now_s, obj["metadata"].get("resourceVersion", ""), include))
        if form == "partial":
            return respond(code, partial(obj))
        return respond(code, obj)

    def list_all(self, req: Request, route: Route) -> Response:
        """A list, filtered and paged, as List, Table or PartialObjectMetadataList."""
        info = route.info
        match = Matcher(route, req)
        objs = [o for o in self.store.iter(info.kind, route.namespace) if match(o)]
        objs, meta = self._page(req, objs)
        form, _ = codec.accepts(req.headers)
        if form == "table":
            answer = table.table(info, objs, self.now_s, str(self.store.rv), req.first("includeObject") or "Metadata")
            answer["metadata"] = meta
            return respond(200, answer)
        if form == "partial":
            return respond(200, {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                                 "items": [partial(o) for o in objs]})
        return respond(200, {"kind": f"{info.kind}List", "apiVersion": info.api_version, "metadata": meta, "items": objs})

    def _page(self, req: Request, objs: list[Obj]) -> tuple[list[Obj], Obj]:
        meta: Obj = {"resourceVersion": str(self.store.rv)}
        token = req.first("continue")
        if token:
            after = _continue_key(token)
            objs = [o for o in objs if (o["metadata"].get("namespace", ""), o["metadata"]["name"]) > after]
        limit = req.first("limit")
        if limit and not limit.isdigit():
            raise bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
        if limit and 0 < int(limit) < len(objs):
            rest = len(objs) - int(limit)
            objs = objs[: int(limit)]
            last = objs[-1]["metadata"]
            raw = json.dumps([last.get("namespace", ""), last["name"]]).encode()
            meta["continue"] = base64.urlsafe_b64encode(raw).decode()
            meta["remainingItemCount"] = rest
        return objs, meta


def _continue_key(token: str) -> Key:
    try:
        namespace, name = json.loads(base64.urlsafe_b64decode(token.encode()))
        return str(namespace), str(name)
    except (ValueError, TypeError):
        raise expired("The provided continue parameter is too old to display a consistent list result.") from None


def respond(code: int, obj: Any) -> Response:
    """A JSON answer."""
    return Response(code, [("Content-Type", "application/json")], codec.encode(obj))


def partial(obj: Obj) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def scale_of(info: KindInfo, obj: Obj) -> Obj:
    """The Scale of a workload (autoscaling/v1)."""
    meta = {k: v for k, v in obj["metadata"].items()
            if k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    status: Obj = {"replicas": (obj.get("status") or {}).get("replicas", 0)}
    requirements = selectors.from_label_selector(obj["spec"].get("selector"))
    if requirements:
        status["selector"] = selectors.label_text(requirements)
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta,
            "spec": {"replicas": obj["spec"].get("replicas", 1)}, "status": status}


# -- paths ------------------------------------------------------------------------------------------------------------


def parse_route(path: str) -> Route:
    """The Route of an object path. ApiError 404 if no kind is served there."""
    parts = [unquote(p) for p in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2 and parts[1] == "v1":
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3 and parts[2] == "v1" and (parts[1] in GROUPS or parts[1] in discovery.REVIEWS):
        group, rest = parts[1], parts[3:]
    else:
        raise no_such_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and not (not group and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    info = BY_PLURAL.get((group, rest[0]))
    if info is None:
        info = _review(group, rest[0])
    if info is None or len(rest) > 3 or namespace and not info.namespaced:
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    if name and info.namespaced and not namespace:
        raise no_such_path()
    return Route(info, namespace, name, rest[2] if len(rest) > 2 else "")


def _review(group: str, plural: str) -> KindInfo | None:
    for name, kind, namespaced in discovery.REVIEWS.get(group, ()):
        if name == plural:
            return KindInfo(kind, group, plural, namespaced=namespaced, status=False)
    return None


class Matcher:
    """The selectors of a list or watch: namespace, labels, fields, and the name of a single-object path."""

    __slots__ = ("namespace", "name", "labels", "fields")

    def __init__(self, route: Route, req: Request) -> None:
        self.namespace = route.namespace
        self.name = route.name
        self.labels = selectors.parse_label_selector(req.first("labelSelector"))
        self.fields = selectors.parse_field_selector(req.first("fieldSelector"), route.info.kind)

    def __call__(self, obj: Obj) -> bool:
        meta = obj["metadata"]
        if self.namespace and meta.get("namespace") != self.namespace or self.name and meta["name"] != self.name:
            return False
        if self.labels and not selectors.matches(self.labels, meta.get("labels")):
            return False
        return not self.fields or selectors.fields_match(self.fields, obj)


class WatchStream:
    """Events of a watch, as the JSON documents the client reads. `poll()` never waits; `closed` after an ERROR event."""

    def __init__(self, api: Api, route: Route, req: Request) -> None:
        self._api = api
        self._info = route.info
        self._match = Matcher(route, req)
        self._table = codec.accepts(req.headers)[0] == "table"
        self._partial = codec.accepts(req.headers)[0] == "partial"
        self._include = req.first("includeObject") or "Metadata"
        self._heads = True
        self.closed = False
        initial = req.first("sendInitialEvents")
        if initial and not req.first("resourceVersionMatch"):
            raise ApiError(422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: "
                           "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        rv = req.first("resourceVersion")
        if rv and not rv.isdigit():
            raise bad_request(f"Invalid value: \"{rv}\": strconv.ParseUint: parsing \"{rv}\": invalid syntax")
        from_start = codec.truth(initial) if initial else rv in ("", "0")
        since = None if from_start else int(rv or 0) if rv not in ("", "0") else api.store.rv
        self._watch: Watch = api.store.watch(route.info.kind, since)
        self._end_mark = codec.truth(initial)
        self.timeout_s = int(req.first("timeoutSeconds") or 0) if (req.first("timeoutSeconds") or "0").isdigit() else 0

    def poll(self) -> list[Obj]:
        """What happened since the last poll."""
        if self.closed:
            return []
        try:
            events = self._watch.poll()
        except ApiError as error:
            self.closed = True
            return [{"type": "ERROR", "object": error.status()}]
        out = [e for event in events if (e := self._translate(event)) is not None]
        if self._end_mark:
            self._end_mark = False
            out.append(self.bookmark({"k8s.io/initial-events-end": "true"}))
        return out

    def pending(self) -> bool:
        """True if poll() has something to look at."""
        return not self.closed and (self._end_mark or self._watch.pending())

    def close(self) -> None:
        self.closed = True
        self._watch.close()

    def bookmark(self, annotations: dict[str, str] | None = None) -> Obj:
        """A BOOKMARK: the reader has seen everything up to the store's present version."""
        meta: Obj = {"resourceVersion": str(self._api.store.rv)}
        if annotations:
            meta["annotations"] = annotations
        if self._table:
            body: Obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": None,
                         "rows": []}
        else:
            body = {"kind": self._info.kind, "apiVersion": self._info.api_version, "metadata": meta}
        return {"type": "BOOKMARK", "object": body}

    def _translate(self, event: Event) -> Obj | None:
        """The event as this reader's selectors see it: what stops matching is DELETED, what starts is ADDED."""
        now = event.type != DELETED and self._match(event.obj)
        before = event.old is not None and self._match(event.old)
        if event.type == DELETED:
            type_ = "DELETED" if before or event.old is None and self._match(event.obj) else ""
        elif now:
            type_ = "MODIFIED" if before else "ADDED"
        else:
            type_ = "DELETED" if before else ""
        if not type_:
            return None
        return {"type": type_, "object": self._shape(event.obj)}

    def _shape(self, obj: Obj) -> Obj:
        if self._table:
            heads, self._heads = self._heads, False
            rv = obj["metadata"]["resourceVersion"]
            return table.table(self._info, [obj], self._api.now_s, rv, self._include, heads)
        return partial(obj) if self._partial else obj


__all__ = ["Api", "Response", "Route", "WatchStream", "method_not_allowed", "not_found", "parse_route"]
