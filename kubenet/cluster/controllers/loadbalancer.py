"""Services of type LoadBalancer: an address from the pool, status.loadBalancer.ingress, and the balancer told of the nodes.

    wanted     type LoadBalancer and no loadBalancerClass (with one it is somebody else's)
    address    spec.loadBalancerIP if that is in the pool and free, else the lowest free one, kept as long as the Service wants one
    nodes      Ready, and without the label node.kubernetes.io/exclude-from-external-load-balancers

simplified: no finalizer; the address is free again when the Service has been deleted.
Source: cloud-provider controllers/service/controller.go syncLoadBalancerIfNeeded(), nodeReadyConditionPredicate().
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.balancer import Balancer
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import is_ready
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.store import Event, Key, Store, key_of
from kubenet.units import SEC
from kubenet.wire.addr import ip4, ip4_text, parse_cidr

Obj = dict[str, Any]

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
POOL = "203.0.113.0/24"  # TEST-NET-3, RFC 5737
AGAIN = 5 * SEC  # minRetryDelay


def wants_balancer(service: Obj) -> bool:
    """True for a Service that this controller looks after."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and "deletionTimestamp" not in service["metadata"]


class LoadBalancerController(Controller):
    """Gives Services their load balancer addresses."""

    name = "service-controller"
    kinds = ("Service", "Node")

    def __init__(self, store: Store, balancer: Balancer, pool: str = POOL, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.balancer = balancer
        self.pool = pool
        self.base, self.plen = parse_cidr(pool)
        self.addresses: dict[Key, str] = {}
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        if event.obj["kind"] == "Node":
            return tuple(self.addresses)
        key = key_of(event.obj)
        return (key,) if key in self.addresses or event.obj["spec"].get("type") == "LoadBalancer" else ()

    def reconcile(self, key: Key) -> int | None:
        service = self.store.get("Service", key)
        if service is None or not wants_balancer(service):
            self._release(key, service)
            return None
        is_new = key not in self.addresses
        why = self._allocate(key, service)
        if why:
            self._release(key, service)
            self.recorder.event(service, "Warning", "SyncLoadBalancerFailed",
                                f"Error syncing load balancer: failed to ensure load balancer: {why}")
            return AGAIN
        if is_new:
            self.recorder.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        spec, address = service["spec"], self.addresses[key]
        check = int(spec.get("healthCheckNodePort") or 0) if spec.get("externalTrafficPolicy") == "Local" else 0
        self.balancer.serve(key, address, self._nodes(), check)
        self._publish(key, service, [{"ip": address, "ipMode": "VIP"}])
        if is_new:
            self.recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        return None

    def _allocate(self, key: Key, service: Obj) -> str:
        """The Service has an address, or why not."""
        asked = str(service["spec"].get("loadBalancerIP") or "")
        have = self.addresses.get(key)
        if have and asked in ("", have):
            return ""
        taken = {ip4(address) for other, address in self.addresses.items() if other != key}
        size = 1 << 32 - self.plen
        usable = range(self.base + 1, self.base + size - 1)
        if asked:
            try:
                number = ip4(asked)
            except ValueError:
                return f"loadBalancerIP {asked} is no IPv4 address"
            if number not in usable:
                return f"loadBalancerIP {asked} is not in the pool {self.pool}"
            if number in taken:
                return f"loadBalancerIP {asked} is already in use"
        else:
            free = next((number for number in usable if number not in taken), None)
            if free is None:
                return f"no address is free in the pool {self.pool}"
            number = free
        self.addresses[key] = ip4_text(number)
        return ""

    def _release(self, key: Key, service: Obj | None) -> None:
        if self.addresses.pop(key, None) is None:
            return
        self.balancer.withdraw(key)
        if service is not None:
            self._publish(key, service, [])

    def _publish(self, key: Key, service: Obj, ingress: list[Obj]) -> None:
        status = {**(service.get("status") or {}), "loadBalancer": {"ingress": ingress} if ingress else {}}
        self.store.set_status("Service", key, status)

    def _nodes(self) -> list[tuple[str, str]]:
        """(name, address) of the nodes that may have traffic."""
        out: list[tuple[str, str]] = []
        for node in self.store.iter("Node"):
            if not is_ready(node) or EXCLUDED in (node["metadata"].get("labels") or {}) or "deletionTimestamp" in node["metadata"]:
                continue
            addresses = (node.get("status") or {}).get("addresses") or []
            out += [(node["metadata"]["name"], a["address"]) for a in addresses if a["type"] == "InternalIP"][:1]
        return out
