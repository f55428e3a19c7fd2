"""Endpoints, the old form: one object per Service, with ready and not-ready addresses. Kubernetes:
pkg/controller/endpoint.

Nothing inside the cluster reads them any more (kube-proxy and DNS read EndpointSlices), but people and tools do. The
other way round, Endpoints that a person wrote for a Service without selector are copied into slices: mirroring.py.

simplified: no truncation at 1000 addresses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import is_ready
from kubenet.cluster.controllers.endpointslice import HEADLESS, ServiceIndex, belongs, find_port
from kubenet.cluster.store import Event, Key, Store, key_of

Obj = dict[str, Any]


def address_of(service: Obj, pod: Obj) -> Obj:
    meta = pod["metadata"]
    out: Obj = {"ip": pod["status"]["podIP"]}
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        out["hostname"] = pod["spec"]["hostname"]
    if pod["spec"].get("nodeName"):
        out["nodeName"] = pod["spec"]["nodeName"]
    out["targetRef"] = {"kind": "Pod", "name": meta["name"], "namespace": meta.get("namespace", ""), "uid": meta["uid"]}
    return out


def desired_subsets(service: Obj, pods: list[Obj]) -> list[Obj]:
    """The subsets of a Service's Endpoints: one per distinct set of ports, addresses in order of their text."""
    tolerate = bool(service["spec"].get("publishNotReadyAddresses"))
    groups: dict[str, Obj] = {}
    for pod in pods:
        if not belongs(pod) or "deletionTimestamp" in pod["metadata"] and not tolerate:
            continue
        ports = []
        for port in service["spec"].get("ports") or ():
            number = find_port(pod, port)
            if number is not None:
                entry: Obj = {"port": number, "protocol": port.get("protocol", "TCP")}
                if port.get("name"):
                    entry["name"] = port["name"]
                ports.append(entry)
        if not ports and service["spec"].get("ports"):
            continue
        group = groups.setdefault(json.dumps(ports), {"addresses": [], "notReadyAddresses": [], "ports": ports})
        group["addresses" if is_ready(pod) or tolerate else "notReadyAddresses"].append(address_of(service, pod))
    return [_sorted(group) for _, group in sorted(groups.items())]


def _sorted(group: Obj) -> Obj:
    out: Obj = {}
    for field in ("addresses", "notReadyAddresses"):
        if group[field]:
            out[field] = sorted(group[field], key=lambda a: a["ip"])
    if group["ports"]:
        out["ports"] = group["ports"]
    return out


class EndpointsController(Controller):
    """Keeps each selecting Service's Endpoints object."""

    name = "endpoint-controller"
    kinds = ("Service", "Pod")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.services = ServiceIndex(store)

    def keys_for(self, event: Event) -> Iterable[Key]:
        if event.obj["kind"] == "Service":
            return (key_of(event.obj),)
        return self.services.keys_of(event.obj, event.old)

    def reconcile(self, key: Key) -> int | None:
        service = self.store.get("Service", key)
        old = self.store.get("Endpoints", key)
        if service is None:
            if old is not None:
                self.store.delete("Endpoints", key)
            return None
        if not service["spec"].get("selector"):
            return None
        wanted: list[selectors.Requirement] = [(k, "=", (v,)) for k, v in service["spec"]["selector"].items()]
        labels = dict(service["metadata"].get("labels") or {})
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        subsets = desired_subsets(service, self.store.list("Pod", key[0], wanted))
        new: Obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": key[1], "namespace": key[0]}}
        if old is not None:
            new = {**old, "metadata": dict(old["metadata"])}
        new["metadata"].pop("labels", None)
        new.pop("subsets", None)
        if labels:
            new["metadata"]["labels"] = labels
        if subsets:
            new["subsets"] = subsets
        if old is None:
            self.store.create(new)
        else:
            self.store.replace(new)
        return None
