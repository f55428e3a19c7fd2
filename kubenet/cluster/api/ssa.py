"""Server-side apply, and who owns which field (metadata.managedFields).

A field set is a tree in the form the API prints it, fieldsV1:

    f:NAME                          a struct field or map key
    k:{"port":80,"protocol":"TCP"}  an element of a list with keys (list-type=map)
    v:"x"                           an element of a set
    "." : {}                        the element or map itself
    {}                              a leaf: a scalar, or an atomic list or map as a whole

    fields_of(node, obj)                      the leaves of an object
    apply(node, live, body, manager, ...)     merge an intent: conflicts, ownership, removal of fields given up
    note_update(node, old, new, manager, ...) a POST, PUT or other patch moves the fields it changed

`managedFields` keeps one entry per (manager, operation, subresource). apiVersion, kind and the identity in metadata
are never owned. A conflict is a leaf of another manager whose live value differs from the one applied; `force` takes
it over.

simplified: field sets are not converted between versions (there is one version of everything); writes of controllers
inside the cluster are not recorded; ownership of an emptied struct is not tracked apart from its leaves.
Source: kubernetes.io "Server-Side Apply", structured-merge-diff's serialisation of field sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kubenet.cluster.api import schema
from kubenet.cluster.api.schema import Node
from kubenet.cluster.api.status import ApiError, bad_request

Obj = dict[str, Any]
Path = tuple[str, ...]

_NEVER_TOP = ("apiVersion", "kind")
_NEVER_META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields",
               "generateName", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds")
_KEY_DEFAULTS: dict[str, Any] = {"protocol": "TCP"}      # the one defaulted key among the map lists we serve


def compact(value: Any) -> str:
    """JSON as field keys carry it: sorted and without blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# -- field sets -------------------------------------------------------------------------------------------------------


def fields_of(node: Node, obj: Obj) -> Obj:
    """The set of leaves of an object, without what nobody owns."""
    out: Obj = {}
    for name, value in obj.items():
        if name in _NEVER_TOP:
            continue
        field = node.fields.get(name)
        if name == "metadata" and isinstance(value, dict):
            value = {k: v for k, v in value.items() if k not in _NEVER_META}
            if not value:
                continue
        if field is not None:
            out["f:" + name] = _tree(field, value)
    return out


def _tree(node: Node, value: Any) -> Obj:
    if node.kind in (schema.OBJECT, schema.MAP) and isinstance(value, dict) and not node.atomic and value:
        out: Obj = {}
        for name, sub in value.items():
            child = node.fields.get(name) if node.kind == schema.OBJECT else node.item
            if child is not None:
                out["f:" + name] = _tree(child, sub)
        if node.kind == schema.MAP:
            out["."] = {}
        return out
    if node.kind == schema.LIST and isinstance(value, list) and node.item is not None:
        if node.list_type == "map":
            return {_item_key(node, x): {**_tree(node.item, x), ".": {}} for x in value if isinstance(x, dict)} | (
                {".": {}} if value else {})
        if node.list_type == "set":
            return {"v:" + compact(x): {} for x in value}
    return {}


def _item_key(node: Node, item: Obj) -> str:
    keys = {k: item.get(k, _KEY_DEFAULTS.get(k)) for k in node.map_keys}
    return "k:" + compact({k: v for k, v in keys.items() if v is not None})


def leaves(tree: Obj, prefix: Path = ()) -> Iterator[Path]:
    """Paths of the leaves; an element or map marker "." counts as one."""
    for key, sub in tree.items():
        if sub:
            yield from leaves(sub, (*prefix, key))
        else:
            yield (*prefix, key)


def tree_of(paths: list[Path]) -> Obj:
    """The tree with these leaves."""
    out: Obj = {}
    for path in paths:
        here = out
        for step in path:
            here = here.setdefault(step, {})
    return out


def _without(tree: Obj, gone: dict[Path, None]) -> Obj:
    return tree_of([p for p in leaves(tree) if p not in gone])


# -- reading values by path -------------------------------------------------------------------------------------------

MISSING = object()


def value_at(node: Node, value: Any, path: Path) -> Any:
    """The live value of a leaf, or MISSING. A "." leaf has the value True when its element exists."""
    here: Any = value
    for step in path:
        if step == ".":
            return True if here is not MISSING else MISSING
        if step.startswith("f:"):
            if not isinstance(here, dict) or step[2:] not in here:
                return MISSING
            here = here[step[2:]]
            child = node.fields.get(step[2:]) if node.kind == schema.OBJECT else node.item
        elif step.startswith("k:"):
            if not isinstance(here, list):
                return MISSING
            here = next((x for x in here if isinstance(x, dict) and _item_key(node, x) == step), MISSING)
            child = node.item
        else:
            wanted = json.loads(step[2:])
            return True if isinstance(here, list) and wanted in here else MISSING
        if here is MISSING or child is None:
            return MISSING
        node = child
    return here


def path_text(path: Path) -> str:
    """A leaf as conflicts name it: .spec.ports[port=80,protocol="TCP"].targetPort."""
    out = ""
    for step in path:
        if step.startswith("f:"):
            out += "." + step[2:]
        elif step.startswith("k:"):
            out += "[" + ",".join(f"{k}={compact(v)}" for k, v in json.loads(step[2:]).items()) + "]"
        elif step.startswith("v:"):
            out += f"[={step[2:]}]"
    return out


# -- managedFields ----------------------------------------------------------------------------------------------------


def _entries(obj: Obj | None) -> list[Obj]:
    return [e for e in ((obj or {}).get("metadata") or {}).get("managedFields") or [] if e.get("fieldsV1") is not None]


def _same(entry: Obj, manager: str, operation: str, subresource: str) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (manager, operation, subresource)


def _entry(manager: str, operation: str, api_version: str, time: str, fields: Obj, subresource: str) -> Obj:
    out: Obj = {"manager": manager, "operation": operation, "apiVersion": api_version, "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": fields}
    if subresource:
        out["subresource"] = subresource
    return out


def with_entries(obj: Obj, entries: list[Obj]) -> Obj:
    """The object with these managedFields; empty ones are dropped."""
    meta = dict(obj["metadata"])
    kept = [e for e in entries if e.get("fieldsV1")]
    if kept:
        meta["managedFields"] = kept
    else:
        meta.pop("managedFields", None)
    return {**obj, "metadata": meta}


def note_update(
    node: Node, old: Obj | None, new: Obj, manager: str, api_version: str, time: str, subresource: str = ""
) -> Obj:
    """`new` with the leaves it changed owned by `manager` (operation Update) and by nobody else."""
    entries = _entries(old)
    given = new["metadata"].get("managedFields")
    if given is not None and old is not None and given != old["metadata"].get("managedFields"):
        entries = [e for e in given if isinstance(e, dict) and e.get("fieldsV1") is not None]   # migration, or a reset
        if not entries:
            return with_entries(new, [])
    have = fields_of(node, new)
    changed = dict.fromkeys(
        p for p in leaves(have) if old is None or value_at(node, old, p) != value_at(node, new, p))
    alive = dict.fromkeys(leaves(have))
    kept: list[Obj] = []
    mine: list[Path] = []
    mine_before: Obj | None = None
    for entry in entries:
        left = [p for p in leaves(entry["fieldsV1"]) if p in alive or p[-1] == "." and value_at(node, new, p) is True]
        if _same(entry, manager, "Update", subresource):
            mine, mine_before = left, entry
            kept.append(entry)
            continue
        left = [p for p in left if p not in changed]
        kept.append(entry if left == list(leaves(entry["fieldsV1"])) else {**entry, "fieldsV1": tree_of(left)})
    fields = tree_of(list(dict.fromkeys([*mine, *changed])))
    if mine_before is not None:
        at = kept.index(mine_before)
        same = set(leaves(fields)) == set(leaves(mine_before["fieldsV1"]))
        if not same or changed:
            kept[at] = _entry(manager, "Update", api_version, time, fields, subresource)
    elif changed:
        kept.append(_entry(manager, "Update", api_version, time, fields, subresource))
    return with_entries(new, kept)


def apply(
    node: Node, live: Obj | None, body: Obj, manager: str, api_version: str, time: str, force: bool, subresource: str = ""
) -> Obj:
    """The object after `manager` applies `body`. ApiError 409 with one cause per conflicting leaf unless `force`."""
    if (body.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    want = fields_of(node, body)
    wanted = dict.fromkeys(leaves(want))
    entries = _entries(live)
    before = next((e for e in entries if _same(e, manager, "Apply", subresource)), None)
    others = [e for e in entries if e is not before]
    if live is not None:
        others = _resolve(node, live, body, wanted, others, force)
    base = {k: v for k, v in body.items() if k != "metadata"}
    merged = _merge(node, live, {**base, "metadata": body.get("metadata") or {}}) if live is not None else body
    if before is not None:
        owned_by_others = {p: None for e in others for p in leaves(e["fieldsV1"])}
        shared = {p[:n]: None for p in owned_by_others for n in range(len(p))}       # containers others have a leaf in
        within = {p[:n]: None for p in wanted for n in range(len(p))}                # a leaf that became a container
        given_up = [
            p for p in leaves(before["fieldsV1"])
            if p not in wanted and p not in owned_by_others and p not in within and not (p[-1] == "." and p[:-1] in shared)
        ]
        for path in sorted(given_up, key=len, reverse=True):
            merged = _drop(node, merged, path)
        merged = _merge(node, merged, {**base, "metadata": body.get("metadata") or {}})      # an empty map that is wanted stays
    same = before is not None and set(leaves(before["fieldsV1"])) == set(wanted)
    entry = before if same and before is not None else _entry(manager, "Apply", api_version, time, want, subresource)
    order = [*others]
    at = entries.index(before) if before is not None else len(order)
    order.insert(min(at, len(order)), entry)
    return with_entries(merged, order)


def _resolve(
    node: Node, live: Obj, body: Obj, wanted: dict[Path, None], others: list[Obj], force: bool
) -> list[Obj]:
    """The other managers' entries after the apply: unchanged, or robbed of conflicting leaves if forced."""
    conflicts: list[tuple[Obj, Path]] = []
    kept = []
    for entry in others:
        lost: dict[Path, None] = {}
        for path in leaves(entry["fieldsV1"]):
            if path in wanted and path[-1] != "." and not path[-1].startswith("v:") and (
                value_at(node, live, path) != value_at(node, body, path)
            ):
                conflicts.append((entry, path))
                lost[path] = None
        kept.append({**entry, "fieldsV1": _without(entry["fieldsV1"], lost)} if lost else entry)
    if conflicts and not force:
        raise conflict_error(conflicts)
    return [e for e in kept if e["fieldsV1"]]


def conflict_error(conflicts: list[tuple[Obj, Path]]) -> ApiError:
    """The 409 that kubectl turns into its long hint."""
    causes: list[Obj] = []
    by_owner: dict[str, list[str]] = {}
    for entry, path in conflicts:
        owner = f'"{entry["manager"]}"'
        if entry.get("subresource"):
            owner += f' with subresource "{entry["subresource"]}"'
        if entry["operation"] == "Update":
            owner += f' using {entry["apiVersion"]}'
        causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path_text(path)})
        by_owner.setdefault(owner, []).append(path_text(path))
    if len(conflicts) == 1:
        message = f'Apply failed with 1 conflict: {causes[0]["message"]}: {causes[0]["field"]}'
    else:
        parts = [f"conflicts with {o}:\n" + "\n".join(f"- {f}" for f in fs) for o, fs in by_owner.items()]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(parts)
    return ApiError(409, "Conflict", message, {"causes": causes})


# -- merging and dropping ---------------------------------------------------------------------------------------------


def _merge(node: Node | None, live: Any, body: Any) -> Any:
    """Live with the intent laid over it: maps recurse, keyed lists by key, sets united, all else replaced."""
    if node is None or live is None:
        return body
    if isinstance(body, dict) and isinstance(live, dict) and node.kind in (schema.OBJECT, schema.MAP) and not node.atomic:
        out = dict(live)
        for name, value in body.items():
            child = node.fields.get(name) if node.kind == schema.OBJECT else node.item
            out[name] = _merge(child, live.get(name), value)
        return out
    if isinstance(body, list) and isinstance(live, list) and node.kind == schema.LIST:
        if node.list_type == "map":
            return _merge_items(node, live, body)
        if node.list_type == "set":
            return live + [x for x in body if x not in live]
    return body


def _merge_items(node: Node, live: list[Any], body: list[Any]) -> list[Any]:
    """Elements of the intent in its order, those of others where they stood among the rest."""
    wanted = {_item_key(node, x): x for x in body}
    have = {_item_key(node, x): x for x in live}
    if [k for k in have if k in wanted] == [k for k in wanted if k in have]:      # same order: keep positions
        out = [_merge(node.item, x, wanted[k]) if k in wanted else x for k, x in have.items()]
        return out + [x for k, x in wanted.items() if k not in have]
    out = [_merge(node.item, have.get(k), x) for k, x in wanted.items()]
    return out + [x for k, x in have.items() if k not in wanted]


def _drop(node: Node, value: Any, path: Path) -> Any:
    """The value without the leaf; containers that become empty by it go too."""
    step, rest = path[0], path[1:]
    if step == ".":
        return value
    if step.startswith("f:"):
        name = step[2:]
        if not isinstance(value, dict) or name not in value:
            return value
        child = node.fields.get(name) if node.kind == schema.OBJECT else node.item
        left = _drop(child, value[name], rest) if rest and child is not None else None
        if rest and left not in ({}, []):
            return {**value, name: left}
        return {k: v for k, v in value.items() if k != name}
    if not isinstance(value, list):
        return value
    if step.startswith("v:"):
        gone = json.loads(step[2:])
        return [x for x in value if x != gone]
    item = node.item
    if item is None:
        return value
    if rest == (".",):
        return [x for x in value if not (isinstance(x, dict) and _item_key(node, x) == step)]
    if len(rest) == 1 and rest[0][2:] in node.map_keys:
        return value                                     # a key lives and dies with its element
    return [_drop(item, x, rest) if isinstance(x, dict) and _item_key(node, x) == step else x for x in value]
