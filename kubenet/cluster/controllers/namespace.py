"""Namespaces: a default service account in each, and an orderly end. Kubernetes:
pkg/controller/{namespace,serviceaccount}.

A deleted namespace stays Terminating until everything in it is gone: the content is deleted (pods gracefully), and
when none is left the finalizer `kubernetes` is taken away, which removes the namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster import events
from kubenet.cluster.api.kinds import SERVED
from kubenet.cluster.controller import Controller
from kubenet.cluster.store import Event, Key, key_of
from kubenet.units import MSEC, SEC

Obj = dict[str, Any]

RETRY = 100 * MSEC
EXPIRY = 60 * SEC


class NamespaceController(Controller):
    """Empties namespaces that are being deleted, and furnishes those that are not."""

    name = "namespace-controller"
    kinds = ("Namespace", "ServiceAccount", "Pod")
    _next_expiry = 0

    def keys_for(self, event: Event) -> Iterable[Key]:
        if event.obj["kind"] == "Namespace":
            return (key_of(event.obj),)
        return (("", event.obj["metadata"].get("namespace", "")),) if event.type == "DELETED" else ()

    def reconcile(self, key: Key) -> int | None:
        namespace = self.store.get("Namespace", key)
        if namespace is None:
            return None
        if "deletionTimestamp" not in namespace["metadata"]:
            if self.store.get("ServiceAccount", (key[1], "default")) is None:
                self.store.create({"apiVersion": "v1", "kind": "ServiceAccount",
                                   "metadata": {"name": "default", "namespace": key[1]}})
            return self._expire()
        return self._empty(namespace, key)

    def _expire(self) -> int | None:
        """Old events go, looked for once a minute at most."""
        if self.clock.now >= self._next_expiry:
            self._next_expiry = self.clock.now + EXPIRY
            events.expire(self.store)
        return None

    def _empty(self, namespace: Obj, key: Key) -> int | None:
        """Everything in the namespace is being deleted; the namespace goes with the last of it."""
        left = 0
        for info in SERVED:
            if not info.namespaced:
                continue
            for obj in self.store.list(info.kind, key[1]):
                if "deletionTimestamp" not in obj["metadata"]:
                    self.store.delete(info.kind, key_of(obj), policy="Background")
                left += self.store.get(info.kind, key_of(obj)) is not None
        if left:
            return RETRY
        spec = {k: v for k, v in namespace.get("spec", {}).items() if k != "finalizers"}
        self.store.replace({**namespace, "metadata": dict(namespace["metadata"]), "spec": spec})
        return None
