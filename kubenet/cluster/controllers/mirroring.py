"""EndpointSlices for Endpoints that people write: a Service without selector that stands for something outside.

Kubernetes: pkg/controller/endpointslicemirroring. Endpoints whose Service has a selector, or that carry
`endpointslice.kubernetes.io/skip-mirror: "true"`, are not mirrored. simplified: one slice per subset, IPv4 only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import owner_ref
from kubenet.cluster.controllers.endpointslice import MANAGED_BY, SERVICE_NAME
from kubenet.cluster.store import Event, Key, key_of

Obj = dict[str, Any]

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"


def mirrored(subsets: list[Obj]) -> dict[str, list[Obj]]:
    """ports (canonical JSON) -> endpoints of the slice."""
    out: dict[str, list[Obj]] = {}
    for subset in subsets:
        ports = [{"name": p.get("name", ""), "port": p["port"], "protocol": p.get("protocol", "TCP")}
                 for p in subset.get("ports") or ()]
        endpoints = out.setdefault(json.dumps(ports), [])
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                endpoint: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
                for name in ("hostname", "nodeName", "targetRef"):
                    if address.get(name):
                        endpoint[name] = address[name]
                endpoints.append(endpoint)
    return {ports: endpoints for ports, endpoints in out.items() if endpoints}


class MirroringController(Controller):
    """Keeps slices equal to hand-written Endpoints."""

    name = "endpointslicemirroring-controller"
    kinds = ("Endpoints", "Service")

    def keys_for(self, event: Event) -> Iterable[Key]:
        return (key_of(event.obj),)

    def reconcile(self, key: Key) -> int | None:
        endpoints, service = self.store.get("Endpoints", key), self.store.get("Service", key)
        have = self.store.list("EndpointSlice", key[0], [(SERVICE_NAME, "=", (key[1],)), (MANAGED_BY, "=", (MANAGER,))])
        want: dict[str, list[Obj]] = {}
        if endpoints is not None and service is not None and not service["spec"].get("selector") and (
                (endpoints["metadata"].get("labels") or {}).get(SKIP) != "true"):
            want = mirrored(endpoints.get("subsets") or [])
        for old in have:
            found = want.pop(json.dumps(old.get("ports") or []), None)
            if found is None:
                self.store.delete("EndpointSlice", key_of(old))
            elif found != old.get("endpoints"):
                self.store.replace({**old, "metadata": dict(old["metadata"]), "endpoints": found})
        for ports, found in want.items():
            assert endpoints is not None
            labels = {**(endpoints["metadata"].get("labels") or {}), SERVICE_NAME: key[1], MANAGED_BY: MANAGER}
            self.store.create({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"generateName": f"{key[1]}-", "namespace": key[0], "labels": labels,
                             "ownerReferences": [owner_ref(endpoints)]},
                "endpoints": found, "ports": json.loads(ports)})
        return None
