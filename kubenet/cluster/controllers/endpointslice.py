"""EndpointSlices: which pods stand behind a Service. Kubernetes: pkg/controller/endpointslice, staging endpointslice.

`desired_endpoints(service, pods, nodes)` is pure: the endpoints that should exist, grouped by the ports they resolve to
(a named targetPort may be another number in another pod). The reconciler then changes existing slices as little as
possible: an endpoint stays in its slice, holes are filled, a slice holds at most 100.

    ready        the pod is ready and not being deleted, or publishNotReadyAddresses
    serving      the pod is ready, being deleted or not
    terminating  the pod is being deleted

Services without a selector are left alone (mirroring.py, or a person, makes their slices).
simplified: IPv4 only; no topology-mode annotation (trafficDistribution is heeded); no last-change-trigger-time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import is_ready, is_terminal, owner_ref
from kubenet.cluster.store import Event, Key, Store, key_of

Obj = dict[str, Any]
PortKey = str                                         # the ports of a slice, as canonical JSON

MAX_ENDPOINTS = 100
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


def find_port(pod: Obj, port: Obj) -> int | None:
    """The number a Service port's targetPort means in this pod, or None. Kubernetes: podutil.FindPort()."""
    target = port.get("targetPort", port.get("port"))
    if isinstance(target, int):
        return target
    for container in _port_containers(pod["spec"]):
        for p in container.get("ports") or ():
            if p.get("name") == target and p.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(p["containerPort"])
    return None


def _port_containers(spec: Obj) -> list[Obj]:
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return [*(spec.get("containers") or ()), *sidecars]


def slice_ports(service: Obj, pod: Obj) -> list[Obj]:
    """The ports of the slice this pod belongs in."""
    out: list[Obj] = []
    for port in service["spec"].get("ports") or ():
        number = find_port(pod, port)
        if number is None:
            continue
        entry: Obj = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        out.append(entry)
    return out


def endpoint_of(service: Obj, pod: Obj, zone: str) -> Obj:
    """One endpoint, as the slice lists it."""
    meta, spec = pod["metadata"], service["spec"]
    serving, terminating = is_ready(pod), "deletionTimestamp" in meta
    out: Obj = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": bool(spec.get("publishNotReadyAddresses")) or serving and not terminating,
                       "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": meta["name"], "namespace": meta.get("namespace", ""), "uid": meta["uid"]},
    }
    if pod["spec"].get("nodeName"):
        out["nodeName"] = pod["spec"]["nodeName"]
    if zone:
        out["zone"] = zone
        if spec.get("trafficDistribution") == "PreferClose" and out["conditions"]["ready"]:
            out["hints"] = {"forZones": [{"name": zone}]}
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        out["hostname"] = pod["spec"]["hostname"]
    return out


def belongs(pod: Obj) -> bool:
    """True if a pod can be an endpoint: it has an address and has not ended."""
    return bool((pod.get("status") or {}).get("podIP")) and not is_terminal(pod)


def desired_endpoints(service: Obj, pods: list[Obj], zones: dict[str, str]) -> dict[PortKey, dict[str, Obj]]:
    """ports -> pod uid -> endpoint. `zones` maps node names to zones."""
    out: dict[PortKey, dict[str, Obj]] = {}
    for pod in pods:
        if not belongs(pod):
            continue
        ports = slice_ports(service, pod)
        if not ports and service["spec"].get("ports"):
            continue                                   # none of the ports exists in this pod
        zone = zones.get(pod["spec"].get("nodeName", ""), "")
        out.setdefault(json.dumps(ports), {})[pod["metadata"]["uid"]] = endpoint_of(service, pod, zone)
    return out


def slice_labels(service: Obj) -> dict[str, str]:
    """Labels of the service's slices: its own, and the ones by which they are found."""
    labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k not in (SERVICE_NAME, MANAGED_BY)}
    labels[SERVICE_NAME] = service["metadata"]["name"]
    labels[MANAGED_BY] = MANAGER
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return labels


def _uid(endpoint: Obj) -> str:
    return str((endpoint.get("targetRef") or {}).get("uid") or endpoint["addresses"][0])


def placed(want: dict[PortKey, dict[str, Obj]], have: list[Obj]) -> list[tuple[Obj | None, PortKey, list[Obj]]]:
    """(existing slice or None for a new one, ports, endpoints) for each slice there should be."""
    out: list[tuple[Obj | None, PortKey, list[Obj]]] = []
    for ports, endpoints in want.items():
        left = dict(endpoints)
        slices: list[tuple[Obj | None, list[Obj]]] = []
        for existing in have:
            if json.dumps(existing.get("ports") or []) == ports:
                keep = [left.pop(u) for e in existing.get("endpoints") or () if (u := _uid(e)) in left]
                slices.append((existing, keep))
        rest = list(left.values())
        for _, kept in sorted(slices, key=lambda s: -len(s[1])):            # fill the fullest first
            room = MAX_ENDPOINTS - len(kept)
            kept.extend(rest[:room])
            rest = rest[room:]
        while rest:
            slices.append((None, rest[:MAX_ENDPOINTS]))
            rest = rest[MAX_ENDPOINTS:]
        out += [(old, ports, kept) for old, kept in slices if kept]
    return out


class ServiceIndex:
    """Which Services select a pod, found by one label of each selector; remade when a Service has changed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._version = -1
        self._by_label: dict[tuple[str, str, str], list[tuple[Key, Obj]]] = {}

    def _refresh(self) -> None:
        version = self.store.log("Service").length
        if version == self._version:
            return
        self._version = version
        self._by_label = {}
        for service in self.store.iter("Service"):
            selector = service["spec"].get("selector")
            if selector:
                label, value = next(iter(selector.items()))
                key = key_of(service)
                self._by_label.setdefault((key[0], label, value), []).append((key, selector))

    def keys_of(self, *pods: Obj | None) -> dict[Key, None]:
        """Keys of the Services that select any of these states of a pod."""
        self._refresh()
        keys: dict[Key, None] = {}
        seen: dict[str, str] | None = None
        for pod in pods:
            if pod is None:
                continue
            labels = pod["metadata"].get("labels") or {}
            if labels == seen:
                continue                               # most changes of a pod leave its labels as they are
            seen = labels
            namespace = pod["metadata"].get("namespace", "")
            for label, value in labels.items():
                for key, selector in self._by_label.get((namespace, label, value), ()):
                    if all(labels.get(k) == v for k, v in selector.items()):
                        keys[key] = None
        return keys


class EndpointSliceController(Controller):
    """Keeps each selecting Service's slices equal to the pods it selects."""

    name = "endpointslice-controller"
    kinds = ("Service", "Pod", "EndpointSlice", "Node")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.services = ServiceIndex(store)
        self._zones: tuple[int, dict[str, str]] = -1, {}            # writes of Nodes so far, and what they say

    def zones(self) -> dict[str, str]:
        """Node names -> zones."""
        version = self.store.log("Node").length
        if version != self._zones[0]:
            self._zones = version, {n["metadata"]["name"]: (n["metadata"].get("labels") or {}).get(ZONE, "")
                                    for n in self.store.iter("Node")}
        return self._zones[1]

    def keys_for(self, event: Event) -> Iterable[Key]:
        obj = event.obj
        if obj["kind"] == "Service":
            return (key_of(obj),)
        if obj["kind"] == "Pod":
            return self.services.keys_of(obj, event.old)
        if obj["kind"] == "EndpointSlice":
            labels = obj["metadata"].get("labels") or {}
            return ((obj["metadata"]["namespace"], labels[SERVICE_NAME]),) if labels.get(MANAGED_BY) == MANAGER and (
                SERVICE_NAME in labels) else ()
        before = (event.old or {"metadata": {}})["metadata"].get("labels") or {}
        if before.get(ZONE) == (obj["metadata"].get("labels") or {}).get(ZONE):
            return ()
        return [key_of(s) for s in self.store.iter("Service")]

    def reconcile(self, key: Key) -> int | None:
        service = self.store.get("Service", key)
        requirement: list[selectors.Requirement] = [(SERVICE_NAME, "=", (key[1],)), (MANAGED_BY, "=", (MANAGER,))]
        have = [s for s in self.store.list("EndpointSlice", key[0], requirement) if "deletionTimestamp" not in s["metadata"]]
        if service is None or service["spec"].get("type") == "ExternalName":
            for s in have:
                self.store.delete("EndpointSlice", key_of(s))
            return None
        if not service["spec"].get("selector") or "deletionTimestamp" in service["metadata"]:
            return None
        wanted: list[selectors.Requirement] = [(k, "=", (v,)) for k, v in service["spec"]["selector"].items()]
        pods = self.store.list("Pod", key[0], wanted)
        self._write(service, placed(desired_endpoints(service, pods, self.zones()), have), have)
        return None

    def _write(self, service: Obj, slices: list[tuple[Obj | None, PortKey, list[Obj]]], have: list[Obj]) -> None:
        labels = slice_labels(service)
        if not slices:                                     # a Service without pods has one empty slice
            slices = [(have[0] if have else None, "", [])]
        kept = {key_of(old): None for old, _, _ in slices if old is not None}
        spare = [s for s in have if key_of(s) not in kept]
        for old, ports, endpoints in slices:
            port_list = json.loads(ports) if ports else None
            if old is None and spare:                      # recycle one that is to go, so that names stay
                old = spare.pop(0)
            if old is None:
                self.store.create(self._made(service, labels, port_list, endpoints))
            else:
                new = {**old, "metadata": {**old["metadata"], "labels": labels}, "endpoints": endpoints, "ports": port_list}
                if new != old:
                    self.store.replace(new)
        for s in spare:
            self.store.delete("EndpointSlice", key_of(s))

    def _made(self, service: Obj, labels: dict[str, str], ports: list[Obj] | None, endpoints: list[Obj]) -> Obj:
        namespace, name = key_of(service)
        return {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"generateName": f"{name}-", "namespace": namespace, "labels": dict(labels),
                         "ownerReferences": [owner_ref(service)]},
            "endpoints": endpoints, "ports": ports,
        }
