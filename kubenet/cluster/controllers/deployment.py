"""Deployment: ReplicaSets, one per template, and the walk from one to the next. Kubernetes: pkg/controller/deployment.

    template -> pod-template-hash -> ReplicaSet NAME-HASH, labelled and selecting with the hash
    rolling update: the new one grows within maxSurge, the old ones shrink within maxUnavailable
    recreate: old pods gone first

`rolling_new` and `rolling_old` are the arithmetic, pure. Revisions are numbered on the ReplicaSets, so that `rollout
history` and `rollout undo` work: undo brings back an old template, which finds its old ReplicaSet and gives it the
next number.

simplified: no rollback annotations of old clients; ReplicaFailure is never set (nothing refuses pods here).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kubenet.cluster.api.table import seconds_of
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import (
    claim,
    condition,
    controller_of,
    is_terminal,
    matching_owners,
    owner_key,
    owner_ref,
    resolve_percent,
    set_condition,
    template_hash,
)
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.store import Event, Key, Store, key_of
from kubenet.units import SEC

Obj = dict[str, Any]

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
HASH = "pod-template-hash"
_NOT_COPIED = (REVISION, DESIRED, MAX, "kubectl.kubernetes.io/last-applied-configuration")


# -- arithmetic -------------------------------------------------------------------------------------------------------


def fence(spec: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers of pods; never both zero. Kubernetes: ResolveFenceposts()."""
    replicas = spec.get("replicas", 1)
    if spec.get("strategy", {}).get("type") == "Recreate":
        return 0, replicas
    rolling = spec.get("strategy", {}).get("rollingUpdate") or {}
    surge = resolve_percent(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = resolve_percent(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def rolling_new(replicas: int, surge: int, new: int, total: int) -> int:
    """How big the new ReplicaSet should be now. Kubernetes: NewRSNewReplicas()."""
    if new >= replicas:
        return replicas
    room = replicas + surge - total
    return new if room <= 0 else new + min(room, replicas - new)


def rolling_old(replicas: int, unavailable: int, new: tuple[int, int], olds: list[tuple[int, int]]) -> list[int]:
    """The sizes of the old ReplicaSets, oldest first; each is given as (size, available pods).

    First pods that are not available go, whatever they are; then as many available ones as maxUnavailable allows.
    Kubernetes: reconcileOldReplicaSets(), cleanupUnhealthyReplicas(), scaleDownOldReplicaSetsForRollingUpdate().
    """
    sizes = [size for size, _ in olds]
    least = replicas - unavailable
    may_go = sum(sizes) + new[0] - least - (new[0] - new[1])
    if may_go <= 0:
        return sizes
    for at, (size, available) in enumerate(olds):                      # the unhealthy first
        sick = min(may_go, max(size - available, 0))
        sizes[at] -= sick
        may_go -= sick
    spare = new[1] + sum(min(a, s) for (_, a), s in zip(olds, sizes, strict=True)) - least
    for at, size in enumerate(sizes):
        gone = min(size, max(spare, 0))
        sizes[at] -= gone
        spare -= gone
    return sizes


def proportional(sizes: list[int], wanted_total: int) -> list[int]:
    """Sizes scaled so that they add up to wanted_total, in proportion, the leftovers to the largest first."""
    have = sum(sizes)
    if have == 0:
        return sizes
    out = [size * wanted_total // have for size in sizes]
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    left = wanted_total - sum(out)
    for i in order:
        if left <= 0:
            break
        if sizes[i]:
            out[i] += 1
            left -= 1
    return out


# -- helpers ----------------------------------------------------------------------------------------------------------


def same_template(a: Obj, b: Obj) -> bool:
    """Equal but for the hash label."""
    return _bare(a) == _bare(b)


def _bare(template: Obj) -> Obj:
    meta = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH}
    meta["labels"] = labels
    meta.pop("creationTimestamp", None)
    return {**template, "metadata": meta}


def revision_of(obj: Obj) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _size(rs: Obj) -> int:
    return int(rs["spec"].get("replicas", 1))


def _available(rs: Obj) -> int:
    return int((rs.get("status") or {}).get("availableReplicas", 0))


def _by_age(rs: Obj) -> tuple[str, int, str]:
    return rs["metadata"]["creationTimestamp"], revision_of(rs), rs["metadata"]["name"]


class DeploymentController(Controller):
    """Keeps each Deployment's ReplicaSets on their way to the present template."""

    name = "deployment-controller"
    kinds = ("Deployment", "ReplicaSet", "Pod")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        obj = event.obj
        if obj["kind"] == "Deployment":
            return (key_of(obj),)
        if obj["kind"] == "ReplicaSet":
            key = owner_key(obj, "Deployment")
            return (key,) if key else matching_owners(self.store, "Deployment", obj) if not controller_of(obj) else ()
        if event.type == "DELETED" and (rs_key := owner_key(obj, "ReplicaSet")):      # recreate waits for old pods to go
            rs = self.store.get("ReplicaSet", rs_key)
            key = owner_key(rs, "Deployment") if rs else None
            return (key,) if key else ()
        return ()

    def reconcile(self, key: Key) -> int | None:
        dep = self.store.get("Deployment", key)
        if dep is None:
            return None
        sets = sorted(claim(self.store, dep, "ReplicaSet"), key=_by_age)
        if "deletionTimestamp" in dep["metadata"]:
            return self._status(key, self._find_new(dep, sets), sets)
        paused = bool(dep["spec"].get("paused"))
        new = self._find_new(dep, sets)
        if not paused:
            new, sets = self._ensure_new(dep, new, sets)
        if paused or self._is_scaling(dep, sets):
            self._scale(dep, new, sets)
        elif new is not None:
            self._roll(dep, new, [s for s in sets if s is not new])
        sets = sorted((s for s in claim(self.store, dep, "ReplicaSet")), key=_by_age)
        new = self._find_new(dep, sets)
        return self._status(key, new, sets)

    # -- the new ReplicaSet -------------------------------------------------------------------------------------------

    def _find_new(self, dep: Obj, sets: list[Obj]) -> Obj | None:
        return next((s for s in sets if same_template(s["spec"]["template"], dep["spec"]["template"])), None)

    def _ensure_new(self, dep: Obj, new: Obj | None, sets: list[Obj]) -> tuple[Obj, list[Obj]]:
        """(the new ReplicaSet, all of them), with the newest revision number on it and on the Deployment."""
        olds = [s for s in sets if s is not new]
        revision = max((revision_of(s) for s in olds), default=0) + 1
        if new is None:
            new = self._create_new(dep, olds, revision)
            sets = [*sets, new]
        else:
            updated = self._annotated(dep, new, max(revision, revision_of(new)))
            sets = [updated if s is new else s for s in sets]
            new = updated
        fresh = self.store.must_get("Deployment", key_of(dep))
        if revision_of(fresh) != revision_of(new):
            meta = {**fresh["metadata"], "annotations": {
                **(fresh["metadata"].get("annotations") or {}), REVISION: str(revision_of(new))}}
            self.store.replace({**fresh, "metadata": meta})
        return new, sets

    def _annotations(self, dep: Obj, revision: int) -> dict[str, str]:
        surge, _ = fence(dep["spec"])
        replicas = dep["spec"].get("replicas", 1)
        own = {k: v for k, v in (dep["metadata"].get("annotations") or {}).items() if k not in _NOT_COPIED}
        return {**own, REVISION: str(revision), DESIRED: str(replicas), MAX: str(replicas + surge)}

    def _annotated(self, dep: Obj, rs: Obj, revision: int) -> Obj:
        have = rs["metadata"].get("annotations") or {}
        want = {**have, **self._annotations(dep, revision)}
        want[DESIRED], want[MAX] = have.get(DESIRED, want[DESIRED]), have.get(MAX, want[MAX])
        ready = dep["spec"].get("minReadySeconds", 0)
        spec = rs["spec"] if rs["spec"].get("minReadySeconds", 0) == ready else {**rs["spec"], "minReadySeconds": ready}
        if have == want and spec is rs["spec"]:
            return rs
        return self.store.replace({**rs, "metadata": {**rs["metadata"], "annotations": want}, "spec": spec})

    def _create_new(self, dep: Obj, olds: list[Obj], revision: int) -> Obj:
        template = json.loads(json.dumps(dep["spec"]["template"]))
        namespace, name = key_of(dep)
        collisions = int((dep.get("status") or {}).get("collisionCount", 0))
        digest = template_hash(template, collisions)
        while self.store.get("ReplicaSet", (namespace, f"{name}-{digest}")) is not None:
            collisions += 1
            digest = template_hash(template, collisions)
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[HASH] = digest
        selector = json.loads(json.dumps(dep["spec"]["selector"]))
        selector.setdefault("matchLabels", {})[HASH] = digest
        surge, _ = fence(dep["spec"])
        size = rolling_new(dep["spec"].get("replicas", 1), surge, 0, sum(_size(s) for s in olds))
        if dep["spec"].get("strategy", {}).get("type") == "Recreate" and any(_size(s) for s in olds):
            size = 0
        spec: Obj = {"replicas": size, "selector": selector, "template": template}
        if dep["spec"].get("minReadySeconds"):
            spec["minReadySeconds"] = dep["spec"]["minReadySeconds"]
        made = self.store.create({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": f"{name}-{digest}", "namespace": namespace, "labels": dict(labels),
                         "annotations": self._annotations(dep, revision), "ownerReferences": [owner_ref(dep)]},
            "spec": spec, "status": {"replicas": 0}})
        if size:
            self._say(dep, made, 0, size)
        return made

    # -- scaling ------------------------------------------------------------------------------------------------------

    def _is_scaling(self, dep: Obj, sets: list[Obj]) -> bool:
        """True if spec.replicas changed since the ReplicaSets were last sized. Kubernetes: isScalingEvent()."""
        wanted = str(dep["spec"].get("replicas", 1))
        return any((s["metadata"].get("annotations") or {}).get(DESIRED, wanted) != wanted for s in sets if _size(s))

    def _scale(self, dep: Obj, new: Obj | None, sets: list[Obj]) -> None:
        """Spread a changed size over the ReplicaSets, in proportion while a rollout is under way. Kubernetes: scale()."""
        replicas = dep["spec"].get("replicas", 1)
        active = [s for s in sets if _size(s)]
        if len(active) <= 1:
            target = active[0] if active else new
            if target is not None:
                self._resize(dep, target, replicas)
            return
        surge, _ = fence(dep["spec"])
        total = sum(_size(s) for s in active)
        if dep["spec"].get("strategy", {}).get("type") == "Recreate":
            return
        wanted = replicas + surge if replicas and total > 0 else 0
        for rs, size in zip(active, proportional([_size(s) for s in active], wanted), strict=True):
            self._resize(dep, rs, size)

    def _resize(self, dep: Obj, rs: Obj, size: int) -> Obj:
        """The ReplicaSet has this size, and knows the Deployment's."""
        rs = self.store.must_get("ReplicaSet", key_of(rs))
        surge, _ = fence(dep["spec"])
        replicas = dep["spec"].get("replicas", 1)
        have = rs["metadata"].get("annotations") or {}
        want = {**have, DESIRED: str(replicas), MAX: str(replicas + surge)}
        before = _size(rs)
        if before == size and want == have:
            return rs
        new = {**rs, "metadata": {**rs["metadata"], "annotations": want}, "spec": {**rs["spec"], "replicas": size}}
        out = self.store.replace(new)
        if before != size:
            self._say(dep, rs, before, size)
        return out

    def _say(self, dep: Obj, rs: Obj, before: int, size: int) -> None:
        word = "up" if size > before else "down"
        self.recorder.event(dep, "Normal", "ScalingReplicaSet",
                            f"Scaled {word} replica set {rs['metadata']['name']} from {before} to {size}")

    # -- rolling ------------------------------------------------------------------------------------------------------

    def _roll(self, dep: Obj, new: Obj, olds: list[Obj]) -> None:
        replicas = dep["spec"].get("replicas", 1)
        if dep["spec"].get("strategy", {}).get("type") == "Recreate":
            for rs in olds:
                self._resize(dep, rs, 0)
            if not any(not is_terminal(p) for rs in olds for p in self.store.owned_by(rs["metadata"]["uid"], "Pod")):
                self._resize(dep, new, replicas)
        else:
            surge, unavailable = fence(dep["spec"])
            total = _size(new) + sum(_size(s) for s in olds)
            size = rolling_new(replicas, surge, _size(new), total)
            if size != _size(new):
                self._resize(dep, new, size)
                return                                        # one step at a time; the write brings us back
            sizes = rolling_old(replicas, unavailable, (_size(new), _available(new)),
                                [(_size(s), _available(s)) for s in olds])
            for rs, wanted in zip(olds, sizes, strict=True):
                if wanted != _size(rs):
                    self._resize(dep, rs, wanted)
        self._clean_up(dep, new, olds)

    def _clean_up(self, dep: Obj, new: Obj, olds: list[Obj]) -> None:
        """Old ReplicaSets beyond revisionHistoryLimit go, once the rollout is complete."""
        if not _complete(dep, new):
            return
        keep = dep["spec"].get("revisionHistoryLimit", 10)
        idle = [s for s in olds if not _size(s) and not (s.get("status") or {}).get("replicas", 0)]
        for rs in sorted(idle, key=revision_of)[: max(len(idle) - keep, 0)]:
            if "deletionTimestamp" not in rs["metadata"]:
                self.store.delete("ReplicaSet", key_of(rs))

    # -- status -------------------------------------------------------------------------------------------------------

    def _status(self, key: Key, new: Obj | None, sets: list[Obj]) -> int | None:
        dep = self.store.get("Deployment", key)
        if dep is None:
            return None
        status = dep.get("status") or {}
        made = desired_status(dep, new, sets)
        now = self.store.now_text()
        conditions = list(status.get("conditions", ()))
        _, unavailable = fence(dep["spec"])
        enough = made.get("availableReplicas", 0) >= dep["spec"].get("replicas", 1) - unavailable
        conditions = set_condition(conditions, {
            "type": "Available", "status": "True" if enough else "False",
            "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            "message": f"Deployment {'has' if enough else 'does not have'} minimum availability."}, now)
        progress, wait = self._progress(dep, new, made, status)
        if progress is not None:
            fresh = _moved(status, made)
            old = condition(dep, "Progressing")
            conditions = set_condition(conditions, progress, now)
            if fresh and old is not None:                     # any progress restarts the deadline
                conditions = [{**c, "lastUpdateTime": now} if c["type"] == "Progressing" else c for c in conditions]
        made["conditions"] = conditions
        if "collisionCount" in status:
            made["collisionCount"] = status["collisionCount"]
        self.store.set_status("Deployment", key, made)
        return wait

    def _progress(self, dep: Obj, new: Obj | None, made: Obj, status: Obj) -> tuple[Obj | None, int | None]:
        """(the Progressing condition, ns until the deadline). Kubernetes: syncRolloutStatus()."""
        if dep["spec"].get("paused"):
            return {"type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused",
                    "message": "Deployment is paused"}, None
        if new is None:
            return None, None
        name = f'ReplicaSet "{new["metadata"]["name"]}"'
        if _complete(dep, new) and made.get("replicas", 0) == dep["spec"].get("replicas", 1):
            return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                    "message": f"{name} has successfully progressed."}, None
        old = condition(dep, "Progressing")
        deadline = dep["spec"].get("progressDeadlineSeconds", 600) * SEC
        if old is None:
            return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetCreated",
                    "message": f"Created new replica set \"{new['metadata']['name']}\""}, deadline
        since = ((seconds_of(old.get("lastUpdateTime")) or 0) - self.store.epoch_s) * SEC
        left = since + deadline - self.store.clock.now
        late = left <= 0 or old.get("reason") == "ProgressDeadlineExceeded"
        if not _moved(status, made) and old.get("reason") != "NewReplicaSetAvailable" and late:
            return {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                    "message": f"{name} has timed out progressing."}, None
        return {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
                "message": f"{name} is progressing."}, left if left > 0 else deadline


def _complete(dep: Obj, new: Obj) -> bool:
    replicas = dep["spec"].get("replicas", 1)
    return bool(_size(new) == replicas and _available(new) == replicas)


def _moved(before: Obj, after: Obj) -> bool:
    """True if a rollout got on: more updated, ready or available pods, or fewer old ones. Kubernetes: DeploymentProgressing()."""
    def old(status: Obj) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    return old(after) < old(before) or any(
        after.get(f, 0) > before.get(f, 0) for f in ("updatedReplicas", "readyReplicas", "availableReplicas"))


def desired_status(dep: Obj, new: Obj | None, sets: list[Obj]) -> Obj:
    """The counts of a Deployment's status; zeros are left out, as Go leaves them out."""
    def total(field: str) -> int:
        return sum(int((s.get("status") or {}).get(field, 0)) for s in sets)

    replicas, available = total("replicas"), total("availableReplicas")
    made: Obj = {"observedGeneration": dep["metadata"].get("generation", 1)}
    wanted = sum(_size(s) for s in sets)
    for name, value in (
        ("replicas", replicas),
        ("updatedReplicas", int((new.get("status") or {}).get("replicas", 0)) if new else 0),
        ("readyReplicas", total("readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", max(wanted - available, 0)),
    ):
        if value:
            made[name] = value
    return made
