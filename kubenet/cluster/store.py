"""The store: every API object, one resourceVersion, and the history that watches read.

    get(kind, key)     list(kind, namespace, labels)     watch(kind, since)     on_write(hook)
    create(obj)        update(obj)       update_status(obj)      set_status(kind, key, status)      delete(kind, key, ...)

Objects are plain dicts as the client sent them and are **never changed in place**: a write makes a new outer dict (and
new metadata) and shares the sections that did not change, so readers may keep what they got for as long as they like.
Every write moves one global, increasing `rv`; a write that changes nothing moves nothing, or controllers would loop and
"unchanged" would read "configured".

A watch pulls: `Watch.poll()` returns the events since the last call. The store never calls a controller; a watch may
carry a `wake` callable that is told that there is something to poll (controllers queue themselves on the event loop
there).

The store knows the life of objects: uid, name suffixes and creationTimestamp (epoch + virtual time), generation,
finalizers, graceful pod deletion (the kubelet confirms by deleting with grace 0), and the three ways an owner can go:
background, foreground, orphan. The collector of dependents runs as an event of its own, as the garbage collector of
Kubernetes does. It neither defaults nor validates: that is the API's work (api/admission.py).

simplified: etcd, quotas and the resourceVersion of lists in the past are left out; a list shows the present.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

from kubenet.cluster.api import selectors
from kubenet.cluster.api.kinds import KINDS
from kubenet.cluster.api.status import already_exists, conflict, expired, not_found

Obj = dict[str, Any]
Key = tuple[str, str]                                # (namespace, name); namespace "" for cluster-scoped kinds
Objs = list[Obj]                                     # inside Store, `list` is a method
Labels = list[selectors.Requirement]

EPOCH_S = 1_767_225_600                              # 2026-01-01T00:00:00Z, when the cluster boots unless told otherwise
HISTORY = 2000                                       # events kept per kind for watches that start in the past
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"        # no vowels, so that no suffix spells a word
DEFAULT_POD_GRACE = 30
DRY_UID = "00000000-0000-4000-8000-000000000000"
ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


class Clock(Protocol):
    """What the control plane needs of the event loop (sim/clock.py)."""

    @property
    def now(self) -> int: ...
    def call_at(self, when: int, fn: Callable[[Any], object], arg: Any = None) -> None: ...
    def call_soon(self, fn: Callable[[Any], object], arg: Any = None) -> None: ...


class Event:
    """One change: what happened, the object after it (the last state for DELETED), the object before it."""

    __slots__ = ("type", "rv", "obj", "old")

    def __init__(self, type_: str, rv: int, obj: Obj, old: Obj | None) -> None:
        self.type = type_
        self.rv = rv
        self.obj = obj
        self.old = old

    def __repr__(self) -> str:
        return f"Event({self.type} {self.obj.get('kind')} {'/'.join(key_of(self.obj))} rv={self.rv})"


def key_of(obj: Obj) -> Key:
    """(namespace, name) of an object."""
    meta = obj["metadata"]
    return meta.get("namespace", "") or "", meta["name"]


@lru_cache(maxsize=1024)
def rfc3339(seconds: int) -> str:
    """Seconds since 1970 as 2026-01-01T00:00:00Z, the only form of time in metadata."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Watch:
    """A reader's place in one kind's history. `wake`, if set, is called after each write of the kind."""

    __slots__ = ("_store", "kind", "position", "_initial", "closed", "wake", "durable")

    def __init__(self, store: Store, kind: str, pos: int, initial: list[Event]) -> None:
        self._store = store
        self.kind = kind
        self.position = pos
        self._initial = initial
        self.closed = False
        self.wake: Callable[[], object] | None = None
        self.durable = False                    # the history waits for this reader: a controller in this process

    def poll(self) -> list[Event]:
        """The events since the last poll, oldest first. ApiError 410 if the reader fell out of the history."""
        events, self._initial = self._initial, []
        log = self._store.log(self.kind)
        if self.position < log.base:
            self.close()
            raise expired(f"too old resource version: {log.dropped_rv} ({self._store.rv})")
        events += log.events[self.position - log.base:]
        self.position = log.length
        return events

    def pending(self) -> bool:
        """True if poll() would return something."""
        log = self._store.log(self.kind)
        return bool(self._initial) or self.position < log.length

    def copy(self) -> Watch:
        """Another reader at the same place."""
        twin = Watch(self._store, self.kind, self.position, list(self._initial))
        self._store.log(self.kind).watches.append(twin)
        return twin

    def close(self) -> None:
        """No more events and no more wakes."""
        self.closed = True
        self.wake = None
        self._store.forget_watch(self)


class _Log:
    """One kind's recent events; `base` is the absolute index of the first one kept."""

    __slots__ = ("events", "base", "dropped_rv", "watches")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.base = 0
        self.dropped_rv = 0
        self.watches: list[Watch] = []

    def trim(self, keep: int) -> None:
        """All but the newest `keep` events go, save those a durable watch has not read yet."""
        count = len(self.events) - keep
        for watch in self.watches:
            if watch.durable:
                count = min(count, watch.position - self.base)
        if count > 0:
            self.dropped_rv = self.events[count - 1].rv
            del self.events[:count]
            self.base += count

    @property
    def length(self) -> int:
        """How many events there have been; grows with every write of the kind."""
        return self.base + len(self.events)


class _Table:
    """One kind's objects by key, with the keys kept in order for lists, and an index by (namespace, label, value)."""

    __slots__ = ("objects", "keys", "labels")

    def __init__(self) -> None:
        self.objects: dict[Key, Obj] = {}
        self.keys: list[Key] = []
        self.labels: dict[tuple[str, str, str], dict[Key, None]] = {}

    def index(self, key: Key, old: Obj | None, new: Obj | None) -> None:
        """The label index follows a write."""
        before = (old["metadata"].get("labels") or {}) if old else {}
        after = (new["metadata"].get("labels") or {}) if new else {}
        if before == after:
            return
        for label, value in before.items():
            self.labels[(key[0], label, value)].pop(key, None)
        for label, value in after.items():
            self.labels.setdefault((key[0], label, value), {})[key] = None

    def candidates(self, namespace: str, labels: list[selectors.Requirement]) -> list[Key] | None:
        """Keys, in order, that alone can satisfy the requirements; None if the index does not help."""
        found = [self.labels.get((namespace, label, values[0]), {}) for label, op, values in labels if op == "="]
        if not found:
            return None
        smallest: dict[Key, None] = min(found, key=len)
        return sorted(smallest)


class Store:
    """All objects of one cluster. See the file's head."""

    def __init__(self, clock: Clock, epoch_s: int = EPOCH_S, seed: int = 0, history: int = HISTORY) -> None:
        self.clock = clock
        self.epoch_s = epoch_s
        self.seed = seed
        self.rv = 0
        self._history = history
        self._tables: dict[str, _Table] = {kind: _Table() for kind in KINDS}
        self._logs: dict[str, _Log] = {kind: _Log() for kind in KINDS}
        self._uids: dict[str, tuple[str, Key]] = {}
        self._dependents: dict[str, dict[tuple[str, Key], None]] = {}      # owner uid -> who names it as an owner
        self._drawn: dict[tuple[str, ...], int] = {}                       # how often each seeded name was asked for
        self._hooks: list[Callable[[Event], object]] = []

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, kind: str, key: Key) -> Obj | None:
        """The object, or None."""
        return self._tables[kind].objects.get(key)

    def must_get(self, kind: str, key: Key) -> Obj:
        """The object. ApiError 404 if there is none."""
        obj = self._tables[kind].objects.get(key)
        if obj is None:
            raise not_found(KINDS[kind], key[1])
        return obj

    def iter(self, kind: str, namespace: str = "") -> Iterator[Obj]:
        """Objects of a kind (and namespace, if given) in order of (namespace, name)."""
        table = self._tables[kind]
        if not namespace:
            for key in table.keys:
                yield table.objects[key]
            return
        for key in table.keys[bisect_left(table.keys, (namespace, "")):]:
            if key[0] != namespace:
                return
            yield table.objects[key]

    def list(self, kind: str, namespace: str = "", labels: Labels | None = None) -> Objs:
        """Objects of a kind, filtered by label requirements (api/selectors.py), in order of (namespace, name)."""
        if not labels:
            return list(self.iter(kind, namespace))
        table = self._tables[kind]
        keys = table.candidates(namespace, labels) if namespace else None
        if keys is not None:
            found = [table.objects[key] for key in keys]
            return [o for o in found if selectors.matches(labels, o["metadata"].get("labels"))]
        return [o for o in self.iter(kind, namespace) if selectors.matches(labels, o["metadata"].get("labels"))]

    def count(self, kind: str) -> int:
        return len(self._tables[kind].keys)

    def by_uid(self, uid: str) -> Obj | None:
        """The living object with this uid, or None."""
        found = self._uids.get(uid)
        return self.get(*found) if found else None

    def owned_by(self, uid: str, kind: str = "") -> Objs:
        """Objects whose ownerReferences name this uid, oldest reference first."""
        refs = self._dependents.get(uid, {})
        return [o for k, key in refs if (not kind or k == kind) and (o := self.get(k, key)) is not None]

    def now_text(self) -> str:
        """The present as metadata writes it: epoch + virtual time, whole seconds."""
        return rfc3339(self.epoch_s + self.clock.now // 1_000_000_000)

    def micro_text(self) -> str:
        """The present as MicroTime fields write it."""
        seconds, rest = divmod(self.clock.now, 1_000_000_000)
        return f"{rfc3339(self.epoch_s + seconds)[:-1]}.{rest // 1000:06d}Z"

    # -- seeded names -------------------------------------------------------------------------------------------------

    def draw(self, *names: str) -> bytes:
        """16 bytes that depend on the seed, the names and how often these names were drawn; nothing else."""
        turn = self._drawn.get(names, 0)
        self._drawn[names] = turn + 1
        text = "\0".join((str(self.seed), str(turn), *names))
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def draws(self) -> dict[tuple[str, ...], int]:
        """How often each name was drawn; for restore_draws() after a dry run, which must leave no trace."""
        return dict(self._drawn)

    def restore_draws(self, state: dict[tuple[str, ...], int]) -> None:
        self._drawn = state

    def new_uid(self, kind: str, key: Key) -> str:
        """A UUID of version 4 from the seed."""
        b = bytearray(self.draw("uid", kind, *key))
        b[6] = b[6] & 0x0F | 0x40
        b[8] = b[8] & 0x3F | 0x80
        h = b.hex()
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

    def new_name(self, kind: str, namespace: str, prefix: str) -> str:
        """prefix + 5 characters, free in the namespace. Kubernetes: SimpleNameGenerator (names/generate.go)."""
        while True:
            raw = self.draw("name", kind, namespace, prefix)
            name = prefix[:58] + "".join(NAME_ALPHABET[b % len(NAME_ALPHABET)] for b in raw[:5])
            if (namespace, name) not in self._tables[kind].objects:
                return name

    # -- writing ------------------------------------------------------------------------------------------------------

    def create(self, obj: Obj, dry_run: bool = False) -> Obj:
        """The stored object: obj with uid, creationTimestamp, resourceVersion and, where the kind has it, generation.

        A missing name is made from generateName. ApiError 409 AlreadyExists.
        """
        kind = obj["kind"]
        info = KINDS[kind]
        meta = dict(obj["metadata"])
        namespace = meta.get("namespace", "") or ""
        if not meta.get("name"):
            meta["name"] = self.new_name(kind, namespace, meta["generateName"])
        key = (namespace, meta["name"])
        if key in self._tables[kind].objects:
            raise already_exists(info, key[1])
        if not meta.get("uid"):                              # a Job's was drawn before, for its selector
            meta["uid"] = DRY_UID if dry_run else self.new_uid(kind, key)
        meta["creationTimestamp"] = self.now_text()
        if info.generation:
            meta["generation"] = 1
        for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(name, None)
        stored = {**obj, "metadata": meta}
        return stored if dry_run else self._commit(ADDED, kind, key, stored, None)

    def update(self, obj: Obj, dry_run: bool = False) -> Obj:
        """The stored object after replacing everything but identity and, if the kind has a /status, its status.

        A resourceVersion in obj must be the stored one: ApiError 409 Conflict; without one the write is unconditional.
        The same content writes nothing. An update that empties the finalizers of a deleted object removes it.
        """
        kind = obj["kind"]
        info = KINDS[kind]
        old = self._checked(obj)
        meta = self._settled_meta(obj, old)
        new = {**obj, "metadata": meta}
        if info.status:
            _carry(new, old, "status")
        if info.generation and _without_status(new) != _without_status(old):
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        return self._replace(kind, new, old, dry_run)

    def update_status(self, obj: Obj, dry_run: bool = False) -> Obj:
        """The stored object with the status of obj, all else as stored (the /status subresource)."""
        old = self._checked(obj)
        new = dict(old)
        new["metadata"] = dict(old["metadata"])
        _carry(new, obj, "status")
        managed = obj["metadata"].get("managedFields")
        if managed is not None:
            new["metadata"]["managedFields"] = managed
        return self._replace(obj["kind"], new, old, dry_run)

    def set_status(self, kind: str, key: Key, status: Obj) -> Obj:
        """update_status() for controllers: no resourceVersion to check."""
        old = self.must_get(kind, key)
        if old.get("status") == status:
            return old
        return self._replace(kind, {**old, "metadata": dict(old["metadata"]), "status": status}, old, False)

    def replace(self, obj: Obj) -> Obj:
        """update() and update_status() in one, for controllers that own both halves of an object."""
        old = self._checked(obj)
        new = {**obj, "metadata": self._settled_meta(obj, old)}
        if KINDS[obj["kind"]].generation and _without_status(new) != _without_status(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        return self._replace(obj["kind"], new, old, False)

    def _checked(self, obj: Obj) -> Obj:
        key = key_of(obj)
        info = KINDS[obj["kind"]]
        old = self.must_get(obj["kind"], key)
        rv = obj["metadata"].get("resourceVersion")
        if rv and rv != old["metadata"]["resourceVersion"]:
            raise conflict(info, key[1])
        uid = obj["metadata"].get("uid")
        if uid and uid != old["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            raise conflict(info, key[1], why)
        return old

    def _settled_meta(self, obj: Obj, old: Obj) -> Obj:
        """Metadata of an update: what only the server may set stays as it was."""
        meta = dict(obj["metadata"])
        before = old["metadata"]
        for name in ("namespace", "uid", "creationTimestamp", "resourceVersion", "generation", "generateName",
                     "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(name, None)
            if name in before:
                meta[name] = before[name]
        return meta

    def _replace(self, kind: str, new: Obj, old: Obj, dry_run: bool) -> Obj:
        if new == old:
            return old
        meta = new["metadata"]
        if "deletionTimestamp" in meta and not meta.get("finalizers") and not _still_graceful(new):
            return new if dry_run else self._remove(kind, key_of(old), new)
        return new if dry_run else self._commit(MODIFIED, kind, key_of(old), new, old)

    def delete(
        self, kind: str, key: Key, grace: int | None = None, policy: str = "", uid: str = "", rv: str = "",
        dry_run: bool = False,
    ) -> tuple[Obj, bool]:
        """(object, gone): the object deleted, or marked as being deleted while somebody still has to confirm.

        policy: Background, Foreground or Orphan for the dependents. grace: seconds, pods only. uid, rv: preconditions.
        """
        old = self.must_get(kind, key)
        meta = old["metadata"]
        if (uid and uid != meta["uid"]) or (rv and rv != meta["resourceVersion"]):
            what, want, have = ("UID", uid, meta["uid"]) if uid and uid != meta["uid"] else (
                "ResourceVersion", rv, meta["resourceVersion"])
            why = f"Precondition failed: {what} in precondition: {want}, {what} in object meta: {have}"
            raise conflict(KINDS[kind], key[1], why)
        new = {**old, "metadata": dict(meta)}
        left = _grace_of(kind, old, grace)
        finalizers = [f for f in meta.get("finalizers", []) if f not in ("orphan", "foregroundDeletion")]
        if policy == "Orphan" and not dry_run:
            self._orphan(meta["uid"])
        elif policy == "Foreground" and self._blocking(meta["uid"]):
            finalizers.append("foregroundDeletion")
        waits = bool(finalizers) or left > 0 or kind == "Namespace" and bool(old.get("spec", {}).get("finalizers"))
        if not waits:
            return (old, True) if dry_run else (self._remove(kind, key, new), True)
        _mark_deleted(new, self, left if kind == "Pod" else 0, finalizers)
        if kind == "Namespace":
            new["status"] = {**old.get("status", {}), "phase": "Terminating"}
        if new == old or dry_run:
            return new, False
        stored = self._commit(MODIFIED, kind, key, new, old)
        if "foregroundDeletion" in finalizers:
            self.clock.call_soon(self._collect, (meta["uid"], True))
        return stored, False

    def on_write(self, hook: Callable[[Event], object]) -> None:
        """hook(event) is called at each write, after it is stored: the ledger, the allocators of addresses."""
        self._hooks.append(hook)

    # -- watching -----------------------------------------------------------------------------------------------------

    def watch(self, kind: str, since: int | None = None) -> Watch:
        """A watch from `since` (a resourceVersion) on, or, with None, from the present state told as ADDED events.

        ApiError 410 if the history does not reach back to `since`.
        """
        log = self._logs[kind]
        pos = log.length
        initial: list[Event] = []
        if since is None:
            initial = [Event(ADDED, int(o["metadata"]["resourceVersion"]), o, None) for o in self.iter(kind)]
        else:
            if since < log.dropped_rv:
                raise expired(f"too old resource version: {since} ({self.rv})")
            while pos > log.base and log.events[pos - log.base - 1].rv > since:
                pos -= 1
        watch = Watch(self, kind, pos, initial)
        log.watches.append(watch)
        return watch

    def log(self, kind: str) -> _Log:
        return self._logs[kind]

    def forget_watch(self, watch: Watch) -> None:
        watches = self._logs[watch.kind].watches
        if watch in watches:
            watches.remove(watch)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _commit(self, type_: str, kind: str, key: Key, obj: Obj, old: Obj | None) -> Obj:
        """Store obj (whose metadata is ours to change), number it, tell watches and hooks."""
        self.rv += 1
        obj["metadata"]["resourceVersion"] = str(self.rv)
        table = self._tables[kind]
        table.index(key, old, None if type_ == DELETED else obj)
        if type_ == DELETED:
            del table.objects[key]
            del table.keys[bisect_left(table.keys, key)]
        else:
            if key not in table.objects:
                insort(table.keys, key)
            table.objects[key] = obj
        self._index(type_, kind, key, obj, old)
        event = Event(type_, self.rv, obj, old)
        log = self._logs[kind]
        log.events.append(event)
        if len(log.events) > 2 * self._history:
            log.trim(self._history)
        for hook in self._hooks:
            hook(event)
        for watch in list(log.watches):
            if watch.wake is not None:
                watch.wake()
        return obj

    def _index(self, type_: str, kind: str, key: Key, obj: Obj, old: Obj | None) -> None:
        """Keep uid -> key and owner -> dependents true after a write."""
        uid = obj["metadata"]["uid"]
        before = old["metadata"].get("ownerReferences") if old else None
        after = None if type_ == DELETED else obj["metadata"].get("ownerReferences")
        if type_ == DELETED:
            self._uids.pop(uid, None)
        else:
            self._uids[uid] = (kind, key)
        if before == after:
            return
        for ref in before or ():
            self._dependents.get(ref["uid"], {}).pop((kind, key), None)
        for ref in after or ():
            self._dependents.setdefault(ref["uid"], {})[(kind, key)] = None
        if after and not any(ref["uid"] in self._uids for ref in after):
            self.clock.call_soon(self._collect, (after[0]["uid"], False))    # born an orphan: collected too

    def _remove(self, kind: str, key: Key, last: Obj) -> Obj:
        old = self._tables[kind].objects[key]
        if last is old or last["metadata"] is old["metadata"]:
            last = {**old, "metadata": dict(old["metadata"])}
        uid = last["metadata"]["uid"]
        gone = self._commit(DELETED, kind, key, last, old)
        if self._dependents.get(uid):
            self.clock.call_soon(self._collect, (uid, False))
        for ref in old["metadata"].get("ownerReferences", ()):
            self._unblock(ref["uid"])
        return gone

    # -- the collector of dependents ----------------------------------------------------------------------------------

    def _collect(self, what: tuple[str, bool]) -> None:
        """Delete the dependents of an owner (uid) that is gone, or is waiting in foreground deletion (True)."""
        uid, foreground = what
        for kind, key in list(self._dependents.get(uid, {})):
            obj = self.get(kind, key)
            if obj is None or "deletionTimestamp" in obj["metadata"]:
                continue
            refs = obj["metadata"].get("ownerReferences", [])
            alive = [r for r in refs if r["uid"] != uid and r["uid"] in self._uids]
            if alive:
                self._strip_owner(kind, key, uid)
            else:
                self.delete(kind, key, policy="Foreground" if foreground else "Background")
        if foreground:
            self._unblock(uid)

    def _blocking(self, uid: str) -> Objs:
        return [o for o in self.owned_by(uid) if any(
            r["uid"] == uid and r.get("blockOwnerDeletion") for r in o["metadata"]["ownerReferences"])]

    def _unblock(self, uid: str) -> None:
        """Let an owner in foreground deletion go once no dependent blocks it any more."""
        owner = self.by_uid(uid)
        if not owner or "foregroundDeletion" not in owner["metadata"].get("finalizers", ()) or self._blocking(uid):
            return
        meta = dict(owner["metadata"])
        meta["finalizers"] = [f for f in meta["finalizers"] if f != "foregroundDeletion"]
        if not meta["finalizers"]:
            del meta["finalizers"]
        self._replace(owner["kind"], {**owner, "metadata": meta}, owner, False)

    def _orphan(self, uid: str) -> None:
        for kind, key in list(self._dependents.get(uid, {})):
            self._strip_owner(kind, key, uid)

    def _strip_owner(self, kind: str, key: Key, uid: str) -> None:
        old = self.must_get(kind, key)
        meta = dict(old["metadata"])
        meta["ownerReferences"] = [r for r in meta.get("ownerReferences", []) if r["uid"] != uid]
        if not meta["ownerReferences"]:
            del meta["ownerReferences"]
        self._replace(kind, {**old, "metadata": meta}, old, False)


def _carry(new: Obj, source: Obj, section: str) -> None:
    """new[section] becomes source's, absence included."""
    if section in source:
        new[section] = source[section]
    else:
        new.pop(section, None)


def _without_status(obj: Obj) -> Obj:
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}


def _grace_of(kind: str, obj: Obj, asked: int | None) -> int:
    """Seconds a pod is given to end. A pod on no node, or one that has ended, needs none (pod strategy CheckGracefulDelete)."""
    if kind != "Pod":
        return 0
    if not obj.get("spec", {}).get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    spec_grace = obj["spec"].get("terminationGracePeriodSeconds", DEFAULT_POD_GRACE)
    wanted = spec_grace if asked is None else max(asked, 0)
    before = obj["metadata"].get("deletionGracePeriodSeconds")
    return wanted if before is None else min(wanted, before)     # a second delete may only shorten it


def _still_graceful(obj: Obj) -> bool:
    """True for a pod in its grace period: only the kubelet's delete ends it, not an update."""
    return obj["kind"] == "Pod" and obj["metadata"].get("deletionGracePeriodSeconds", 0) > 0 or (
        obj["kind"] == "Namespace" and bool(obj.get("spec", {}).get("finalizers")))


def _mark_deleted(new: Obj, store: Store, grace: int, finalizers: list[str]) -> None:
    """deletionTimestamp is when the grace ends, as Kubernetes writes it."""
    meta = new["metadata"]
    if "deletionTimestamp" not in meta or grace != meta.get("deletionGracePeriodSeconds"):
        meta["deletionTimestamp"] = rfc3339(store.epoch_s + store.clock.now // 1_000_000_000 + grace)
        meta["deletionGracePeriodSeconds"] = grace
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
