"""Three of the four kinds of patch; the fourth, server-side apply, is ssa.py.

    json_patch(doc, ops)                RFC 6902, by the jsonpatch package; its errors become the server's 422
    merge_patch(doc, patch)             RFC 7386: objects merge, null deletes, everything else replaces
    strategic_merge(node, doc, patch)   Kubernetes' own: like merge patch, but lists whose schema names a merge key are
                                        merged element by element, and directives say what merging cannot

All return a new document and leave the old one alone; unchanged sections are shared.

Directives of strategic merge, all sent by kubectl: `$setElementOrder/FIELD` (order of the result),
`$deleteFromPrimitiveList/FIELD`, `$patch: delete` or `replace` or `merge` (in an object or a list element),
`$retainKeys`. Source: apimachinery strategicpatch/patch.go; which list has which key is data (schema.py,
x-kubernetes-patch-*).
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api import schema
from kubenet.cluster.api.schema import Node
from kubenet.cluster.api.status import ApiError, bad_request, unprocessable

Obj = dict[str, Any]

ORDER, DELETE_PRIMITIVES = "$setElementOrder/", "$deleteFromPrimitiveList/"


def json_patch(doc: Any, ops: Any) -> Any:
    """The document after the operations. ApiError 400 for a malformed patch, 422 for one that cannot be applied."""
    import jsonpatch

    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        out: Any = jsonpatch.apply_patch(doc, ops)
        return out
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, ValueError, KeyError) as error:
        raise unprocessable(f"the server rejected our request due to an error in our request: {error}") from None


def merge_patch(doc: Any, patch: Any) -> Any:
    """RFC 7386 section 2, MergePatch(Target, Patch)."""
    if not isinstance(patch, dict):
        return patch
    out = dict(doc) if isinstance(doc, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


def strategic_merge(node: Node | None, doc: Any, patch: Any) -> Any:
    """The document after a strategic merge patch; node is the document's type (None below untyped data)."""
    if not isinstance(patch, dict):
        raise bad_request("cannot unmarshal array into Go value of type map[string]interface {}")
    return _merge_object(node, doc if isinstance(doc, dict) else {}, patch)


def _merge_object(node: Node | None, doc: Obj, patch: Obj) -> Obj:
    directive = patch.get("$patch")
    if directive == "replace":
        replaced: Obj = _plain({k: v for k, v in patch.items() if k != "$patch"})
        return replaced
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise _unknown_directive(directive)
    out = dict(doc)
    if "$retainKeys" in patch:
        out = {k: v for k, v in out.items() if k in patch["$retainKeys"]}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys"):
            continue
        if key.startswith(DELETE_PRIMITIVES):
            name = key[len(DELETE_PRIMITIVES):]
            if isinstance(out.get(name), list) and isinstance(value, list):
                out[name] = [x for x in out[name] if x not in value]
        elif key.startswith(ORDER):
            continue
        elif value is None:
            out.pop(key, None)
        else:
            out[key] = _merge_field(_field(node, key), out.get(key), value)
    for key, order in patch.items():
        if key.startswith(ORDER):
            name = key[len(ORDER):]
            if isinstance(out.get(name), list) and isinstance(order, list):
                out[name] = _ordered(_field(node, name), out[name], order, patch.get(name))
    return out


def _field(node: Node | None, name: str) -> Node | None:
    if node is None:
        return None
    if node.kind == schema.OBJECT:
        return node.fields.get(name)
    return node.item if node.kind == schema.MAP else None


def _merge_field(node: Node | None, old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        replaces = node is not None and "replace" in node.patch_strategy
        return _plain(new) if replaces else _merge_object(node, old if isinstance(old, dict) else {}, new)
    if isinstance(new, list):
        if node is not None and "merge" in node.patch_strategy:
            have = old if isinstance(old, list) else []
            if node.patch_key:
                return _merge_list(node, have, new)
            return have + [x for x in new if x not in have]          # a set of scalars, such as finalizers
        return [_plain(x) for x in new if not _is_directive(x)]
    return new


def _is_directive(value: Any) -> bool:
    return isinstance(value, dict) and "$patch" in value and len(value) == 1


def _merge_list(node: Node, old: list[Any], new: list[Any]) -> list[Any]:
    """Elements matched by the merge key; those of the patch that match nothing go to the end."""
    key = node.patch_key
    if any(isinstance(x, dict) and x.get("$patch") == "replace" for x in new):
        return [_plain(x) for x in new if not (isinstance(x, dict) and x.get("$patch") == "replace")]
    out = list(old)
    for item in new:
        if not isinstance(item, dict):
            raise bad_request(f"expected an object in a list merged by {key!r}")
        if key not in item:
            raise bad_request(f"map: map[{', '.join(map(str, item))}] does not contain declared merge key: {key}")
        at = next((i for i, x in enumerate(out) if isinstance(x, dict) and x.get(key) == item[key]), -1)
        directive = item.get("$patch")
        if directive == "delete":
            out = [x for x in out if not (isinstance(x, dict) and x.get(key) == item[key])]
        elif directive not in (None, "merge"):
            raise _unknown_directive(directive)
        elif at < 0:
            out.append(_merge_object(node.item, {}, item))
        else:
            out[at] = _merge_object(node.item, out[at], item)
    return out


def _ordered(node: Node | None, items: list[Any], order: list[Any], patched: Any) -> list[Any]:
    """The list in the order asked for; elements the order does not name keep their place behind their predecessor."""
    key = node.patch_key if node is not None else ""

    def name(x: Any) -> Any:
        return x.get(key) if key and isinstance(x, dict) else x

    wanted = [name(x) for x in order]
    listed = [x for x in items if name(x) in wanted]
    listed.sort(key=lambda x: wanted.index(name(x)))
    out: list[Any] = list(listed)
    for at, item in enumerate(items):                       # server-only elements: after the one they followed
        if name(item) in wanted:
            continue
        before = items[at - 1] if at else None
        place = next((i for i, x in enumerate(out) if x is before), -1)
        out.insert(place + 1 if before is not None else 0, item)
    return out


def _plain(value: Any) -> Any:
    """A patch value as data: nulls and directives inside it have nothing to act on."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None and not k.startswith("$")}
    if isinstance(value, list):
        return [_plain(x) for x in value]
    return value


def _unknown_directive(directive: Any) -> ApiError:
    return bad_request(f"unknown patch type found: {directive}")
