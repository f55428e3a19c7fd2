"""Which endpoints a service port may use on one node: traffic policy, topology hints and termination.

    cat = categorize(endpoints, port, "node-1", zone="a")
    cat.cluster      what a Cluster policy may use here
    cat.local        what a Local policy may use here
    cat.reachable    all that some rule of this node leads to (they need a chain)
    cat.has_any      whether the Service has an endpoint anywhere: REJECT if not, DROP if only this node has none

An endpoint that is neither ready nor serving-while-terminating is never used. If nothing is ready, what still serves
while terminating takes over; this holds apart for the cluster and for the node, so a Local policy may lead to a
terminating Pod here while the Cluster policy uses ready ones elsewhere.

Topology hints count all together or not at all: one ready endpoint without a hint switches them off.

Source: pkg/proxy/topology.go CategorizeEndpoints(), topologyModeFromHints().
"""

from __future__ import annotations

from typing import NamedTuple

from kubenet.cluster.proxy.changes import Endpoint, ServicePort

NO_TOPOLOGY, SAME_NODE, SAME_ZONE = "", "PreferSameNode", "PreferSameZone"

Endpoints = tuple[Endpoint, ...]


class Categorized(NamedTuple):
    """The endpoints of one service port as one node sees them, each tuple sorted by "ip:port"."""

    cluster: Endpoints
    local: Endpoints
    reachable: Endpoints
    has_any: bool


NOTHING = Categorized((), (), (), False)


def topology_mode(endpoints: Endpoints, node_name: str, zone: str) -> str:
    """How far hints narrow the choice on this node. Looks at ready endpoints only."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if not ready:
        return NO_TOPOLOGY
    if all(endpoint.node_hints for endpoint in ready) and any(node_name in e.node_hints for e in ready):
        return SAME_NODE
    if zone and all(endpoint.zone_hints for endpoint in ready) and any(zone in e.zone_hints for e in ready):
        return SAME_ZONE
    return NO_TOPOLOGY


def _is_available(endpoint: Endpoint, mode: str, node_name: str, zone: str) -> bool:
    if mode == SAME_NODE:
        return node_name in endpoint.node_hints
    return mode == NO_TOPOLOGY or zone in endpoint.zone_hints


def _still_serving(endpoints: Endpoints) -> Endpoints:
    return tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def categorize(endpoints: Endpoints, port: ServicePort, node_name: str, zone: str = "") -> Categorized:
    """Sort the endpoints of `port` by who may use them on node `node_name` in `zone` ("" if unknown)."""
    if not endpoints:
        return NOTHING
    mode, cluster = NO_TOPOLOGY, ()  # type: tuple[str, Endpoints]
    if port.uses_cluster_endpoints:
        mode = topology_mode(endpoints, node_name, zone)
        cluster = tuple(e for e in endpoints if e.ready and _is_available(e, mode, node_name, zone))
        cluster = cluster or _still_serving(endpoints)
    if not port.uses_local_endpoints:
        return Categorized(cluster, (), cluster, bool(cluster))

    has_any = any(e.ready or (e.serving and e.terminating) for e in endpoints)
    here = tuple(endpoint for endpoint in endpoints if endpoint.node_name == node_name)
    ready_here = tuple(endpoint for endpoint in here if endpoint.ready)
    local = ready_here or _still_serving(here)
    if not port.uses_cluster_endpoints:
        return Categorized(cluster, local, local, has_any)
    if mode == NO_TOPOLOGY and (ready_here or not local):
        return Categorized(cluster, local, cluster, has_any)
    union = {endpoint.text: endpoint for endpoint in (*cluster, *local)}
    return Categorized(cluster, local, tuple(union[text] for text in sorted(union)), has_any)
