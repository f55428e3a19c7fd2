"""Writes: from a body to the store. The second half of rest.py.

    body -> clean (schema: unknown fields, types) -> patch or apply -> admission (defaults, allocation) -> validate
         -> managedFields -> store

One pipeline, `_store_update` and `_store_create`, serves POST, PUT and all four patch types; what differs is only how
the new object is made from the old one. A dry run goes all the way and stops before the store, giving back what it
allocated.

Source of texts and codes: Kubernetes apiserver pkg/endpoints/handlers (create.go, update.go, patch.go, delete.go).
"""

from __future__ import annotations

import json
from typing import Any

from kubenet.cluster.api import codec, effects, patch, schema, ssa
from kubenet.cluster.api.admission import complete_create, complete_update
from kubenet.cluster.api.kinds import KINDS, KindInfo
from kubenet.cluster.api.rest import Api, Matcher, Request, Response, Route, respond, scale_of
from kubenet.cluster.api.status import (
    ApiError,
    FieldErrors,
    bad_request,
    conflict,
    invalid,
    method_not_allowed,
    no_such_path,
    not_found,
    unsupported_media,
)
from kubenet.cluster.api.validate import validate
from kubenet.cluster.store import Key, key_of

Obj = dict[str, Any]


def handle(api: Api, req: Request, route: Route) -> Response:
    """The answer to a POST, PUT, PATCH or DELETE. ApiError."""
    if route.info.kind not in KINDS:
        return _review(req, route)
    if req.method == "POST":
        return _post_sub(api, req, route) if route.sub else _post(api, req, route)
    if req.method == "PUT" and route.name:
        return _put(api, req, route)
    if req.method == "PATCH" and route.name:
        return _patch(api, req, route)
    if req.method == "DELETE" and not route.sub:
        return _delete(api, req, route) if route.name else _delete_collection(api, req, route)
    raise method_not_allowed()


# -- bodies -----------------------------------------------------------------------------------------------------------


def _body(req: Request) -> Obj:
    duplicates: list[str] = []
    body = codec.decode_body(req.headers, req.body, duplicates)
    if not isinstance(body, dict):
        raise bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal "
                          f"{'array' if isinstance(body, list) else 'value'} into Go value of type struct")
    for name in duplicates:
        _finding(req, f'duplicate field "{name}"', body)
    return body


_SCALE = "io.k8s.api.autoscaling.v1.Scale"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def _typed(definition: str, body: Obj) -> Obj:
    """A body of a kind that is not stored, without unknown fields. ApiError 400 for wrong types."""
    issues = schema.Issues()
    out: Obj = schema.clean(schema.named(definition), body, issues)
    if issues.types:
        raise bad_request(_handled({"kind": definition.rpartition(".")[2], "apiVersion": "v1"}, issues.types[0][1]))
    return out


def _finding(req: Request, text: str, body: Obj) -> None:
    if req.validation == "Strict":
        raise bad_request(_handled(body, "strict decoding error: " + text))
    if req.validation == "Warn":
        req.warnings.append(text)


def _handled(body: Obj, text: str) -> str:
    kind, version = body.get("kind", ""), str(body.get("apiVersion", "")).rpartition("/")[2]
    return f'{kind} in version "{version}" cannot be handled as a {kind}: {text}'


def _identified(route: Route, body: Obj) -> Obj:
    """The body with kind and apiVersion, which must be the route's if given. ApiError 400."""
    info = route.info
    if body.get("kind", info.kind) != info.kind:
        raise bad_request(f"the kind in the data ({body['kind']}) does not match the expected kind ({info.kind})")
    if body.get("apiVersion", info.api_version) != info.api_version:
        raise bad_request(f"the API version in the data ({body['apiVersion']}) does not match the expected API version "
                          f"({info.api_version})")
    out = {"apiVersion": info.api_version, "kind": info.kind, **body}
    meta = out.get("metadata")
    out["metadata"] = {} if meta is None else meta
    return out


def _cleaned(req: Request, info: KindInfo, body: Obj, missing: list[str], patched: Any = None) -> Obj:
    """A fresh copy of the body without unknown fields. ApiError 400 for types, and for unknown fields when strict."""
    issues = schema.Issues()
    out = schema.clean(schema.schema_of(info.kind), body, issues)
    if issues.types:
        raise bad_request(_handled(body, issues.types[0][1]))
    if issues.unknown:
        texts = [f'unknown field "{path}"' for path in issues.unknown]
        if req.validation == "Strict":
            if patched is not None:
                raise _strict_patch(patched, ", ".join(texts))
            raise bad_request(_handled(body, "strict decoding error: " + ", ".join(texts)))
        if req.validation == "Warn":
            req.warnings.extend(texts)
    missing.extend(issues.missing)
    result: Obj = out
    result.setdefault("metadata", {})
    return result


def _strict_patch(patched: Any, text: str) -> ApiError:
    value = json.dumps(json.dumps(patched, separators=(",", ":"), ensure_ascii=False), ensure_ascii=False)
    message = f"Invalid value: {value}: strict decoding error: {text}"
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]
    return ApiError(422, "Invalid", f' "" is invalid: patch: {message}', {"causes": causes})


def _check_place(route: Route, obj: Obj) -> None:
    """Name and namespace in the body agree with the URL; a missing namespace is filled in. ApiError 400."""
    meta = obj["metadata"]
    if route.info.namespaced:
        if meta.get("namespace") and meta["namespace"] != route.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        meta["namespace"] = route.namespace
    else:
        meta.pop("namespace", None)
    if route.name and meta.setdefault("name", route.name) != route.name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({route.name})")


# -- create and update ------------------------------------------------------------------------------------------------


def _store_create(api: Api, req: Request, info: KindInfo, obj: Obj, missing: list[str], mark: bool = True) -> Obj:
    """The stored object made of a cleaned body: complete, valid, with its fields owned (unless apply did that)."""
    drawn = api.store.draws() if req.dry_run else None
    sent = effects.warnings(info.kind, obj)
    try:
        complete_create(api.admission, obj)
        errors = validate(info, obj, None, missing)
        if errors:
            raise invalid(info, obj["metadata"].get("name", ""), errors)
        if mark:
            obj["metadata"].pop("managedFields", None)
            node = schema.schema_of(info.kind)
            obj = ssa.note_update(node, None, obj, req.manager, info.api_version, api.store.now_text())
        out = api.store.create(obj, dry_run=req.dry_run)
    except ApiError:
        _give_back(api, obj, None)
        raise
    finally:
        if drawn is not None:
            api.store.restore_draws(drawn)
    if req.dry_run:
        _give_back(api, obj, None)
    req.warnings.extend(sent)
    return out


def _give_back(api: Api, obj: Obj, old: Obj | None) -> None:
    """Undo what admission allocated for a write that did not happen."""
    if obj["kind"] != "Service" or not obj["metadata"].get("name"):
        return
    current = old or api.store.get("Service", key_of(obj))
    if current is not None:
        api.admission.book(current)
    else:
        api.admission.services.release(f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}")


def _store_update(
    api: Api, req: Request, route: Route, old: Obj, obj: Obj, missing: list[str], mark: bool = True
) -> Obj:
    """The stored object after replacing old by a cleaned body; the same object back if nothing changes."""
    info = route.info
    sub = route.sub if route.sub in ("status", "finalize") else ""
    rv = obj["metadata"].get("resourceVersion")
    if rv and rv != old["metadata"]["resourceVersion"]:
        raise conflict(info, route.name)
    sent = [] if sub else effects.warnings(info.kind, obj, old)
    try:
        if not sub:
            complete_update(api.admission, obj, old)
            _keep_identity(obj, old)
            errors = validate(info, obj, old, missing)
            if errors:
                raise invalid(info, route.name, errors)
        else:
            _keep_identity(obj, old)
            if sub == "status":
                obj = {**old, "metadata": {**old["metadata"], "managedFields": obj["metadata"].get("managedFields")},
                       "status": obj.get("status", {})}
                if obj["metadata"]["managedFields"] is None:
                    del obj["metadata"]["managedFields"]
        if mark:
            node = schema.schema_of(info.kind)
            tag = sub if sub == "status" else ""
            obj = ssa.note_update(node, old, obj, req.manager, info.api_version, api.store.now_text(), tag)
        if sub == "status":
            return api.store.update_status(obj, dry_run=req.dry_run)
        out = api.store.update(obj, dry_run=req.dry_run)
    except ApiError:
        _give_back(api, obj, old)
        raise
    if req.dry_run:
        _give_back(api, obj, old)
    if out is not old:
        req.warnings.extend(sent)
    return out


def _keep_identity(obj: Obj, old: Obj) -> None:
    """What no client may change stays; a different uid is a different object."""
    meta, before = obj["metadata"], old["metadata"]
    if meta.get("uid") and meta["uid"] != before["uid"]:
        raise conflict(KINDS[obj["kind"]], before["name"],
                       f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {before['uid']}")
    for name in ("uid", "creationTimestamp", "generation", "resourceVersion", "generateName", "deletionTimestamp",
                 "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(name, None)
        if name in before:
            meta[name] = before[name]


def _post(api: Api, req: Request, route: Route) -> Response:
    if route.name:
        raise method_not_allowed()
    if route.info.namespaced and not route.namespace:
        raise bad_request("an empty namespace may not be set during creation")
    missing: list[str] = []
    obj = _cleaned(req, route.info, _identified(route, _body(req)), missing)
    _check_place(route, obj)
    out = _store_create(api, req, route.info, obj, missing)
    return api.render_one(req, route.info, out, 201)


def _put(api: Api, req: Request, route: Route) -> Response:
    if route.sub == "scale" and route.info.scale:
        return _scale(api, req, route, _typed(_SCALE, _body(req)))
    if route.sub and route.sub not in ("status", "finalize", "ephemeralcontainers"):
        raise no_such_path()
    missing: list[str] = []
    obj = _cleaned(req, route.info, _identified(route, _body(req)), missing)
    _check_place(route, obj)
    old = api.store.must_get(route.info.kind, route.key)
    out = _store_update(api, req, route, old, obj, missing)
    return api.render_one(req, route.info, out, 200)


# -- patches ----------------------------------------------------------------------------------------------------------


def _patch(api: Api, req: Request, route: Route) -> Response:
    kind = codec.media_type(req.headers)
    if kind not in codec.PATCH_TYPES:
        known = ", ".join(codec.PATCH_TYPES)
        raise unsupported_media(f"the body of the request was in an unknown format - accepted media types include: {known}")
    if kind == codec.APPLY:
        return _apply(api, req, route)
    body = codec.decode_body(req.headers, req.body, [])
    if route.sub == "scale" and route.info.scale:
        old_scale = scale_of(route.info, api.store.must_get(route.info.kind, route.key))
        return _scale(api, req, route, _typed(_SCALE, _patched(None, kind, old_scale, body)))
    if route.sub and route.sub not in ("status", "ephemeralcontainers"):
        raise no_such_path()
    old = api.store.must_get(route.info.kind, route.key)
    out = _patch_object(api, req, route, old, kind, body)
    return api.render_one(req, route.info, out, 200)


def _patched(node: schema.Node | None, kind: str, old: Obj, body: Any) -> Obj:
    if kind == codec.JSON_PATCH:
        new = patch.json_patch(old, body)
    elif kind == codec.MERGE_PATCH:
        new = patch.merge_patch(old, body)
    else:
        new = patch.strategic_merge(node, old, body)
    if not isinstance(new, dict) or not isinstance(new.get("metadata", {}), dict):
        raise bad_request("the patch does not leave an object behind")
    result: Obj = new
    return result


def _patch_object(api: Api, req: Request, route: Route, old: Obj, kind: str, body: Any) -> Obj:
    info = route.info
    new = _identified(route, _patched(schema.schema_of(info.kind), kind, old, body))
    missing: list[str] = []
    obj = _cleaned(req, info, new, missing, patched=body)
    _check_place(route, obj)
    return _store_update(api, req, route, old, obj, missing)


def _apply(api: Api, req: Request, route: Route) -> Response:
    duplicates: list[str] = []
    body = codec.decode_body(req.headers, req.body, duplicates)
    if not isinstance(body, dict):
        raise bad_request("error decoding YAML: expected an object")
    for name in duplicates:
        _finding(req, f'duplicate field "{name}"', body)
    if not req.first("fieldManager"):
        errors = FieldErrors()
        errors.required("fieldManager", "is required for apply patch")
        info = KindInfo("PatchOptions", "meta.k8s.io", "patchoptions")
        raise invalid(info, "", errors)
    existed = api.store.get(route.info.kind, route.key) is not None
    out = _apply_object(api, req, route, body, codec.truth(req.first("force")))
    return api.render_one(req, route.info, out, 200 if existed else 201)


def _apply_object(api: Api, req: Request, route: Route, body: Obj, force: bool) -> Obj:
    """The stored object after server-side apply of body."""
    info = route.info
    body = _identified(route, body)
    node = schema.schema_of(info.kind)
    issues = schema.Issues()
    intent = schema.clean(node, body, issues)
    if issues.types:
        raise bad_request(_handled(body, issues.types[0][1]))
    if issues.unknown:
        raise _not_declared(route, issues.unknown)
    _check_place(route, intent)
    old = api.store.get(info.kind, route.key)
    if old is None and (route.sub or intent["metadata"].get("uid")):
        raise not_found(info, route.name)
    if info.status and not route.sub:
        intent.pop("status", None)
    now = api.store.now_text()
    tag = "status" if route.sub == "status" else ""
    merged = ssa.apply(node, old, intent, req.manager, info.api_version, now, force, tag)
    quiet = Request(req.method, {**req.query, "fieldValidation": ["Ignore"]}, req.headers, b"", req.warnings)
    missing: list[str] = []
    obj = _cleaned(quiet, info, merged, missing)
    if old is None:
        return _store_create(api, req, info, obj, missing, mark=False)
    return _store_update(api, req, route, old, obj, missing, mark=False)


def _not_declared(route: Route, paths: list[str]) -> ApiError:
    """What structured-merge-diff says; the API server hands it on as a plain 500 without a reason."""
    info = route.info
    place = f"{route.namespace}/{route.name}" if route.namespace else f"/{route.name}"
    found = [f".{p}: field not declared in schema" for p in paths]
    body = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {f}" for f in found)
    text = f"failed to create typed patch object ({place}; {info.api_version}, Kind={info.kind}): {body}"
    return ApiError(500, "", text)


def apply_in_process(
    api: Api, obj: Obj, manager: str, force: bool, dry_run: bool
) -> tuple[Obj, str, list[str]]:
    """Api.apply: (object, verb, warnings)."""
    info = KINDS.get(str(obj.get("kind")))
    if info is None or info.api_version != obj.get("apiVersion") or not info.served:
        raise bad_request(f'no matches for kind "{obj.get("kind")}" in version "{obj.get("apiVersion")}"')
    meta = obj.get("metadata") or {}
    namespace = (meta.get("namespace") or "default") if info.namespaced else ""
    query = {"fieldManager": [manager], "fieldValidation": ["Strict"], "dryRun": ["All"] if dry_run else []}
    req = Request("PATCH", query, {}, b"")
    route = Route(info, namespace, str(meta.get("name", "")))
    if not route.name:
        missing: list[str] = []
        body = _cleaned(req, info, _identified(route, obj), missing)
        _check_place(route, body)
        return _store_create(api, req, info, body, missing), "created", req.warnings
    old = api.store.get(info.kind, route.key)
    new = _apply_object(api, req, route, obj, force)
    return new, "created" if old is None else "unchanged" if _same(old, new) else "configured", req.warnings


def _same(old: Obj, new: Obj) -> bool:
    return old is new or {k: v for k, v in old.items() if k != "metadata"} == {
        k: v for k, v in new.items() if k != "metadata"} and _plain_meta(old) == _plain_meta(new)


def _plain_meta(obj: Obj) -> Obj:
    return {k: v for k, v in obj["metadata"].items() if k not in ("managedFields", "resourceVersion", "generation")}


# -- subresources and reviews -----------------------------------------------------------------------------------------


def _scale(api: Api, req: Request, route: Route, scale: Obj) -> Response:
    """Set spec.replicas by a Scale; unconditional unless it carries a resourceVersion."""
    old = api.store.must_get(route.info.kind, route.key)
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        errors = FieldErrors()
        errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(KindInfo("Scale", "autoscaling", "scales"), route.name, errors)
    rv = (scale.get("metadata") or {}).get("resourceVersion")
    meta = {**old["metadata"]}
    if rv:
        meta["resourceVersion"] = rv
    obj = schema.clean(schema.schema_of(route.info.kind), {**old, "metadata": meta}, schema.Issues())
    obj["spec"]["replicas"] = replicas
    plain = Route(route.info, route.namespace, route.name)
    return respond(200, scale_of(route.info, _store_update(api, req, plain, old, obj, [])))


def _post_sub(api: Api, req: Request, route: Route) -> Response:
    if route.info.kind != "Pod" or route.sub not in ("binding", "eviction"):
        raise method_not_allowed() if route.sub in ("status", "scale", "log") else no_such_path()
    body = _body(req)
    pod = api.store.must_get("Pod", route.key)
    if route.sub == "eviction":
        options = _typed("io.k8s.api.policy.v1.Eviction", body).get("deleteOptions") or {}
        if not req.dry_run and "All" not in (options.get("dryRun") or ()):
            _delete_one(api, route.info, route.key, options)
    else:
        target = _typed("io.k8s.api.core.v1.Binding", body).get("target") or {}
        if not req.dry_run:
            bind(api, pod, str(target.get("name", "")))
    return respond(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


def bind(api: Api, pod: Obj, node: str) -> None:
    """The pod is on the node. ApiError 409 if it is on one already. Kubernetes: BindingREST."""
    info = KINDS["Pod"]
    name = pod["metadata"]["name"]
    if pod["spec"].get("nodeName"):
        raise conflict(info, name, f"pod {name} is already assigned to node \"{pod['spec']['nodeName']}\"")
    status = {**pod.get("status", {})}
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": api.store.now_text()}
    status["conditions"] = [c for c in status.get("conditions", ()) if c.get("type") != "PodScheduled"] + [scheduled]
    api.store.replace({**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status})


def _review(req: Request, route: Route) -> Response:
    """Questions about permissions: everybody may do everything here."""
    if req.method != "POST":
        raise method_not_allowed()
    body = _body(req)
    kind = route.info.kind
    user = {"username": "kubenet-admin", "groups": ["system:masters", "system:authenticated"]}
    everything = ["*"]
    statuses: dict[str, Obj] = {
        "SelfSubjectAccessReview": {"allowed": True, "reason": "kubenet has no access control"},
        "SelfSubjectReview": {"userInfo": user},
        "SelfSubjectRulesReview": {
            "incomplete": False,
            "resourceRules": [{"verbs": everything, "apiGroups": everything, "resources": everything}],
            "nonResourceRules": [{"verbs": everything, "nonResourceURLs": everything}],
        },
    }
    answer: Obj = {"kind": kind, "apiVersion": route.info.api_version, "metadata": {}, "status": statuses[kind]}
    if kind != "SelfSubjectReview":
        answer["spec"] = body.get("spec") or {}
    return respond(201, answer)


# -- delete -----------------------------------------------------------------------------------------------------------


def _delete_options(req: Request) -> Obj:
    """DeleteOptions of the body, with those of the query on top."""
    options: Obj = _typed(_META + "DeleteOptions", _body(req)) if req.body.strip() else {}
    if req.first("gracePeriodSeconds").lstrip("-").isdigit():
        options["gracePeriodSeconds"] = int(req.first("gracePeriodSeconds"))
    if req.first("propagationPolicy"):
        options["propagationPolicy"] = req.first("propagationPolicy")
    if req.first("orphanDependents"):
        options["orphanDependents"] = codec.truth(req.first("orphanDependents"))
    if req.dry_run:
        options["dryRun"] = ["All"]
    policy = options.get("propagationPolicy")
    if policy not in (None, "Background", "Foreground", "Orphan"):
        errors = FieldErrors()
        errors.unsupported("propagationPolicy", policy, ["Background", "Foreground", "Orphan"])
        raise invalid(KindInfo("DeleteOptions", "meta.k8s.io", "deleteoptions"), "", errors)
    return options


def _delete_one(api: Api, info: KindInfo, key: Key, options: Obj) -> tuple[Obj, bool]:
    wanted = options.get("preconditions") or {}
    policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "")
    return api.store.delete(
        info.kind, key, grace=options.get("gracePeriodSeconds"), policy=policy, uid=str(wanted.get("uid") or ""),
        rv=str(wanted.get("resourceVersion") or ""), dry_run="All" in (options.get("dryRun") or ()))


def _delete(api: Api, req: Request, route: Route) -> Response:
    obj, gone = _delete_one(api, route.info, route.key, _delete_options(req))
    if not gone or route.info.kind == "Pod":
        return api.render_one(req, route.info, obj, 200)
    details: Obj = {"name": route.name}
    if route.info.group:
        details["group"] = route.info.group
    details["kind"] = route.info.plural
    details["uid"] = obj["metadata"]["uid"]
    return respond(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def _delete_collection(api: Api, req: Request, route: Route) -> Response:
    options = _delete_options(req)
    match = Matcher(route, req)
    found = [o for o in api.store.list(route.info.kind, route.namespace) if match(o)]
    items = [_delete_one(api, route.info, key_of(o), options)[0] for o in found]
    return respond(200, {"kind": f"{route.info.kind}List", "apiVersion": route.info.api_version,
                         "metadata": {"resourceVersion": str(api.store.rv)}, "items": items})
