"""What several controllers ask of objects: who owns it, is it ready, which pods are mine.

Pure functions over dicts, and the two ways pods come to a workload: made from its template, or claimed because they
match its selector (controller_ref_manager.go). A pod that stops matching is let go, which is the usual trick to keep a
sick pod for inspection while its ReplicaSet replaces it.
"""

from __future__ import annotations

import json
from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.api.admission import complete_pod
from kubenet.cluster.api.defaults import pod as default_pod
from kubenet.cluster.api.table import seconds_of
from kubenet.cluster.store import NAME_ALPHABET, Key, Store, key_of
from kubenet.units import SEC

Obj = dict[str, Any]


def owner_ref(owner: Obj) -> Obj:
    """A controller reference to the owner."""
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}


def controller_of(obj: Obj) -> Obj | None:
    """The reference to the object's controller, if it has one."""
    for ref in obj["metadata"].get("ownerReferences", ()):
        if ref.get("controller"):
            found: Obj = ref
            return found
    return None


def owner_key(obj: Obj, kind: str) -> Key | None:
    """The key of the controller of this kind, if that is who owns the object."""
    ref = controller_of(obj)
    return (obj["metadata"].get("namespace", ""), ref["name"]) if ref and ref["kind"] == kind else None


def condition(obj: Obj, type_: str) -> Obj | None:
    """The status condition of this type."""
    for entry in (obj.get("status") or {}).get("conditions", ()):
        if entry.get("type") == type_:
            found: Obj = entry
            return found
    return None


def is_ready(pod: Obj) -> bool:
    """True if the pod's Ready condition is."""
    found = condition(pod, "Ready")
    return found is not None and found.get("status") == "True"


def is_terminal(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    """True for a pod that counts: not ended, not being deleted."""
    return not is_terminal(pod) and "deletionTimestamp" not in pod["metadata"]


def available_in(pod: Obj, min_ready_s: int, store: Store) -> int | None:
    """0 if the pod is available, ns until it may be, None while it is not ready."""
    found = condition(pod, "Ready")
    if found is None or found.get("status") != "True":
        return None
    if min_ready_s <= 0:
        return 0
    since = seconds_of(found.get("lastTransitionTime")) or 0
    due = (since - store.epoch_s + min_ready_s) * SEC
    return max(due - store.clock.now, 0)


def count_available(pods: list[Obj], min_ready_s: int, store: Store) -> tuple[int, int | None]:
    """(how many are available, ns until the next one may be)."""
    waits = [available_in(p, min_ready_s, store) for p in pods]
    later = [w for w in waits if w]
    return sum(1 for w in waits if w == 0), min(later) if later else None


def set_condition(conditions: list[Obj], new: Obj, now: str) -> list[Obj]:
    """The conditions with this one set; lastTransitionTime moves only when the status does."""
    old = next((c for c in conditions if c["type"] == new["type"]), None)
    if old and all(old.get(k) == v for k, v in new.items()):
        return conditions
    moved = now if old is None or old.get("status") != new.get("status") else old.get("lastTransitionTime", now)
    made = {**new, "lastUpdateTime": now, "lastTransitionTime": moved}
    return [made if c is old else c for c in conditions] if old else [*conditions, made]


def pod_from_template(store: Store, owner: Obj, template: Obj, name: str = "", **labels: str) -> Obj:
    """A pod, not yet stored, as the owner's controller posts it and admission completes it."""
    template = json.loads(json.dumps(template))               # the pod's own copy: defaults are written into it
    meta = template.get("metadata") or {}
    out: Obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": template.get("spec") or {}, "status": {}}
    prefix = owner["metadata"]["name"] + "-"
    namespace = owner["metadata"].get("namespace", "")
    out["metadata"]["name"] = name or store.new_name("Pod", namespace, prefix)
    if not name:
        out["metadata"]["generateName"] = prefix
    out["metadata"]["namespace"] = namespace
    for field in ("labels", "annotations"):
        if meta.get(field):
            out["metadata"][field] = dict(meta[field])
    if labels:
        out["metadata"].setdefault("labels", {}).update(labels)
    out["metadata"]["ownerReferences"] = [owner_ref(owner)]
    default_pod(out)
    complete_pod(out)
    return out


def claim(store: Store, owner: Obj, kind: str = "Pod") -> list[Obj]:
    """Objects the owner controls, after adopting orphans that match its selector and letting go those that do not."""
    wanted = selectors.from_label_selector(owner["spec"].get("selector"))
    if wanted is None:
        return []
    meta = owner["metadata"]
    out: list[Obj] = []
    found = {key_of(o): o for o in store.list(kind, meta.get("namespace", ""), wanted)}
    found.update({key_of(o): o for o in store.owned_by(meta["uid"], kind)})
    for obj in [found[key] for key in sorted(found)]:
        ref = controller_of(obj)
        fits = selectors.matches(wanted, obj["metadata"].get("labels"))
        if ref is not None and ref["uid"] == meta["uid"]:
            if fits or "deletionTimestamp" in meta:
                out.append(obj)
            else:
                _release(store, obj, meta["uid"])
        elif ref is None and fits and "deletionTimestamp" not in meta and "deletionTimestamp" not in obj["metadata"]:
            refs = [*obj["metadata"].get("ownerReferences", ()), owner_ref(owner)]
            out.append(store.replace({**obj, "metadata": {**obj["metadata"], "ownerReferences": refs}}))
    return out


def _release(store: Store, obj: Obj, uid: str) -> None:
    refs = [r for r in obj["metadata"]["ownerReferences"] if r["uid"] != uid]
    meta = {**obj["metadata"], "ownerReferences": refs}
    if not refs:
        del meta["ownerReferences"]
    store.replace({**obj, "metadata": meta})


def matching_owners(store: Store, kind: str, pod: Obj) -> list[Key]:
    """Keys of workloads of this kind that an ownerless pod may belong to."""
    out: list[Key] = []
    for obj in store.iter(kind, pod["metadata"].get("namespace", "")):
        wanted = selectors.from_label_selector(obj["spec"].get("selector"))
        if wanted and selectors.matches(wanted, pod["metadata"].get("labels")):
            out.append((obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
    return out


def template_hash(template: Obj, collisions: int = 0) -> str:
    """pod-template-hash: FNV-1a of the template, spelled as Kubernetes spells it (only bcdf456789 occur).

    simplified: the real hash is over Go's dump of the struct, so the letters differ from a real cluster's.
    """
    data = json.dumps(template, sort_keys=True, separators=(",", ":")) + (str(collisions) if collisions else "")
    h = 0x811C9DC5
    for byte in data.encode():
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "".join(NAME_ALPHABET[ord(digit) % len(NAME_ALPHABET)] for digit in str(h))


def resolve_percent(value: Any, total: int, up: bool) -> int:
    """An int-or-percent of a total, rounded up or down. Kubernetes: GetScaledValueFromIntOrPercent()."""
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        scaled = int(value[:-1]) * total
        return -(-scaled // 100) if up else scaled // 100
    return int(value or 0)
