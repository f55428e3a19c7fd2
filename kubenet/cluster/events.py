"""Events: the little notes components leave about objects, for people ("Scheduled", "FailedMount", "Killing").

    recorder = EventRecorder(store, "default-scheduler")
    recorder.event(pod, "Normal", "Scheduled", "Successfully assigned default/web-0 to node-2")

The same note about the same object is counted, not repeated, as client-go's correlator does. Events of cluster-scoped
objects live in namespace `default`. They are kept for an hour (the API server's --event-ttl), and about KEEP of them.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api.kinds import KINDS
from kubenet.cluster.store import Store, key_of
from kubenet.units import SEC

Obj = dict[str, Any]

TTL = 3600 * SEC
KEEP, SPARE = 2000, 500                 # how many are kept, and how many at a time are dropped beyond that
SEEN = 4096                             # notes a recorder remembers, as client-go's correlator


class EventRecorder:
    """One component's voice."""

    def __init__(self, store: Store, component: str, host: str = "") -> None:
        self.store = store
        self.component = component
        self.host = host
        self._seen: dict[tuple[str, ...], tuple[str, str]] = {}      # what was said about whom -> the Event's key

    def event(self, obj: Obj, type_: str, reason: str, message: str, field_path: str = "") -> None:
        """The note is in the store, or counted once more. type_ is Normal or Warning."""
        meta = obj["metadata"]
        said = (meta.get("uid", ""), type_, reason, message, field_path)
        key = self._seen.get(said)
        old = self.store.get("Event", key) if key else None
        now = self.store.now_text()
        if old is not None:
            self.store.replace({**old, "count": old.get("count", 1) + 1, "lastTimestamp": now})
            return
        namespace = meta.get("namespace") or "default"
        ref = {"kind": obj["kind"], "namespace": meta.get("namespace", ""), "name": meta["name"], "uid": meta.get("uid", ""),
               "apiVersion": KINDS[obj["kind"]].api_version, "resourceVersion": meta.get("resourceVersion", "")}
        if field_path:
            ref["fieldPath"] = field_path
        name = self._name(namespace, meta["name"])
        stored = self.store.create({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {k: v for k, v in ref.items() if v}, "reason": reason, "message": message, "type": type_,
            "source": {"component": self.component, **({"host": self.host} if self.host else {})},
            "firstTimestamp": now, "lastTimestamp": now, "eventTime": None, "count": 1,
            "reportingComponent": self.component, "reportingInstance": self.host,
        })
        self._seen[said] = key_of(stored)
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        _forget_old(self.store)

    def _name(self, namespace: str, name: str) -> str:
        """NAME.HEX of the time in ns, as client-go names events; so an object's events sort by time."""
        stamp = self.store.epoch_s * SEC + self.store.clock.now
        while self.store.get("Event", (namespace, f"{name}.{stamp:x}")) is not None:
            stamp += 1
        return f"{name}.{stamp:x}"


def _forget_old(store: Store) -> None:
    """Drop the oldest events when there are too many."""
    if store.count("Event") > KEEP + SPARE:
        oldest = sorted(store.iter("Event"), key=lambda e: int(e["metadata"]["resourceVersion"]))
        for event in oldest[:SPARE]:
            store.delete("Event", key_of(event))


def expire(store: Store) -> None:
    """Events older than the TTL are gone; called by the namespace controller now and then."""
    from kubenet.cluster.api.table import seconds_of

    limit = store.epoch_s + (store.clock.now - TTL) // SEC
    for event in store.list("Event"):
        if (seconds_of(event.get("lastTimestamp")) or 0) < limit:
            store.delete("Event", key_of(event))
