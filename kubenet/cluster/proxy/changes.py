"""What kube-proxy remembers of the cluster: service ports and endpoints, and which Services changed since last time.

Events only note what is new; `apply()` at the start of a sync takes it over and names the Services that changed.
A Service whose update changes nothing the proxy reads (a label, say) is no change; a slice event is one whenever the
slice differs. Removing a Service leaves its slices known, and the other way round, because the two arrive in any order.

    services.update(None, obj); slices.update(None, obj)        add; (old, new) change; (old, None) delete
    services.apply(), slices.apply()                            -> names of what changed
    services.ports[("ns/svc:http", "tcp")]                      a ServicePort
    slices.endpoints[("ns/svc:http", "tcp")]                    its Endpoints, in the order rules are written

The key of both is (printable name, protocol in lower case), which is also the order Services are visited in.
Nothing here depends on the node, so the same records serve every node.

A Service or slice labelled for another proxy (service.kubernetes.io/service-proxy-name) or as headless is not there: the
lists and watches of kube-proxy leave them out, so that an object that gets such a label is one that goes.

Source: pkg/proxy servicechangetracker.go, serviceport.go, endpointslicecache.go, endpointschangetracker.go;
cmd/kube-proxy/app/server.go for the label selector.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kubenet.cluster.api.ips import (
    FAMILY_NAMES,
    Cidr,
    Ip,
    cidrs_of_family,
    host_port,
    ips_of_family,
    parse_ip,
)
from kubenet.cluster.api.views import (
    EndpointSliceView,
    EndpointView,
    MetaView,
    Obj,
    ServicePortView,
    ServiceView,
    ViewCache,
)
from kubenet.cluster.proxy.names import service_port_name

UNWATCHED_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
"""Whatever their value."""

PortKey = tuple[str, str]
"""(namespace/name[:port], protocol in lower case)."""

ServiceName = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service in one address family: all that rules are written from."""

    spn: str
    protocol: str
    cluster_ip: Ip
    port: int
    node_port: int
    external_ips: tuple[Ip, ...]
    vips: tuple[Ip, ...]
    source_ranges: tuple[Cidr, ...]
    external_local: bool
    internal_local: bool
    affinity_seconds: int
    """0 without session affinity."""
    health_check_node_port: int

    @property
    def is_externally_accessible(self) -> bool:
        """Whether anything but the clusterIP leads to it."""
        return bool(self.node_port or self.vips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Whether some way in may use endpoints of the whole cluster."""
        return not self.internal_local or self.is_externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Whether some way in uses endpoints of this node only."""
        return self.internal_local or (self.external_local and self.is_externally_accessible)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place a service port's connections may go to."""

    text: str
    """ "ip:port" or "[ip]:port": what is sorted, hashed and printed."""
    ip: Ip
    port: int
    node_name: str
    ready: bool
    serving: bool
    terminating: bool
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


def is_watched(meta: MetaView) -> bool:
    """Whether kube-proxy's watches select an object with these labels."""
    return not any(label in meta.labels for label in UNWATCHED_LABELS)


def is_external_local(service: ServiceView) -> bool:
    """Whether externalTrafficPolicy Local means anything for this Service and is set."""
    reachable = service.type in ("LoadBalancer", "NodePort") or (
        service.type == "ClusterIP" and bool(service.external_ips)
    )
    return reachable and service.external_policy == "Local"


def source_ranges(service: ServiceView, family: int) -> tuple[Cidr, ...]:
    """The ranges of that family; a /0 among them lets everybody in, which is the same as none."""
    ranges = cidrs_of_family(service.source_ranges, family)
    return () if any(cidr.plen == 0 for cidr in ranges) else ranges


def service_port(
    service: ServiceView, port: ServicePortView, cluster_ip: Ip, family: int, allow_external_ips: bool
) -> ServicePort:
    """The ServicePort for one entry of spec.ports."""
    external_local = is_external_local(service)
    vips = [entry.ip for entry in service.ingress if entry.ip and entry.ip_mode == "VIP"]
    health_checked = service.type == "LoadBalancer" and external_local
    return ServicePort(
        spn=service_port_name(service.meta.namespace, service.meta.name, port.name),
        protocol=port.protocol.lower(),
        cluster_ip=cluster_ip,
        port=port.port,
        node_port=port.node_port,
        external_ips=ips_of_family(service.external_ips, family) if allow_external_ips else (),
        vips=ips_of_family(vips, family),
        source_ranges=source_ranges(service, family),
        external_local=external_local,
        internal_local=service.internal_policy == "Local",
        affinity_seconds=service.affinity_seconds if service.session_affinity == "ClientIP" else 0,
        health_check_node_port=service.health_check_node_port if health_checked else 0,
    )


def service_ports(service: ServiceView, family: int, allow_external_ips: bool = True) -> dict[PortKey, ServicePort]:
    """The service ports of one family; none for a headless or ExternalName Service or one without such an address."""
    cluster_ip = service.cluster_ip_of(family) if service.is_proxied else None
    if cluster_ip is None:
        return {}
    ports = [service_port(service, port, cluster_ip, family, allow_external_ips) for port in service.ports]
    return {(port.spn, port.protocol): port for port in ports}


def endpoint(view: EndpointView, port: int, family: int) -> Endpoint | None:
    """The Endpoint at addresses[0], or None if that is no address of the family."""
    try:
        ip = parse_ip(view.addresses[0])
    except (ValueError, IndexError):
        return None
    if ip.family != family:
        return None
    return Endpoint(
        host_port(ip, port),
        ip,
        port,
        view.node_name,
        view.ready,
        view.serving,
        view.terminating,
        view.zone_hints,
        view.node_hints,
    )


def merge_slices(
    service: ServiceName, slices: Iterable[EndpointSliceView], family: int
) -> dict[PortKey, tuple[Endpoint, ...]]:
    """Endpoints by service port, each "ip:port" once and sorted by that text.

    A later duplicate replaces an earlier one unless it is terminating: running beats terminating.
    """
    merged: dict[PortKey, dict[str, Endpoint]] = {}
    for view in slices:
        for port in view.ports:
            if not port.port:
                continue
            key = (service_port_name(*service, port.name), port.protocol.lower())
            found = merged.setdefault(key, {})
            for item in view.endpoints:
                one = endpoint(item, port.port, family)
                if one is not None and (one.text not in found or not one.terminating):
                    found[one.text] = one
    return {key: tuple(found[text] for text in sorted(found)) for key, found in merged.items()}


class Changes(NamedTuple):
    """What one `Trackers.apply()` took over."""

    names: tuple[ServiceName, ...]
    """The Services whose rules have to be written again."""
    has_services: bool
    """Whether Services themselves are among the causes, not endpoints alone."""
    udp_changed: bool
    """Whether endpoints of a UDP port are among them."""
    gone_udp: tuple[ServicePort, ...]
    """UDP service ports that no longer exist."""


class Trackers:
    """Both trackers of one family: all that rules are written from, and the same for every node."""

    __slots__ = ("services", "slices")

    def __init__(self, family: int, allow_external_ips: bool = True, views: ViewCache | None = None) -> None:
        self.services = ServiceTracker(family, allow_external_ips, views)
        self.slices = SliceTracker(family, views)

    def apply(self) -> Changes:
        """Take over what was heard."""
        services, gone_udp = self.services.apply()
        slices, has_udp = self.slices.apply()
        return Changes(tuple(dict.fromkeys((*services, *slices))), bool(services), has_udp, tuple(gone_udp))

    def everything(self) -> Changes:
        """All that is known, as if it had just been heard: for a node that begins now."""
        names = dict.fromkeys((*self.services.names(), *self.slices.names()))
        return Changes(tuple(names), True, False, ())

    def count_endpoints(self) -> int:
        """How many endpoints the known service ports have, each counted as often as it is named."""
        endpoints = self.slices.endpoints
        return sum([len(endpoints.get(key, ())) for key in self.services.ports])

    def copy(self) -> Trackers:
        """Another one that knows and has heard the same."""
        twin = Trackers.__new__(Trackers)
        twin.services, twin.slices = self.services.copy(), self.slices.copy()
        return twin


class ServiceTracker:
    """The service ports of one family, and what was heard since `apply()`."""

    __slots__ = ("_known", "_pending", "_views", "allow_external_ips", "family", "ports")

    def __init__(self, family: int, allow_external_ips: bool = True, views: ViewCache | None = None) -> None:
        self.family = family
        self.allow_external_ips = allow_external_ips
        self.ports: dict[PortKey, ServicePort] = {}
        self._known: dict[ServiceName, dict[PortKey, ServicePort]] = {}
        self._pending: dict[ServiceName, dict[PortKey, ServicePort]] = {}
        self._views = views or ViewCache()

    def update(self, old: Obj | None, new: Obj | None) -> bool:
        """Note an added, changed or deleted Service; true if a sync has something to do."""
        obj = new if new is not None else old
        if obj is None:
            return bool(self._pending)
        view = self._views.service(obj)
        name = (view.meta.namespace, view.meta.name)
        is_there = new is not None and is_watched(view.meta)
        ports = service_ports(view, self.family, self.allow_external_ips) if is_there else {}
        if ports == self._known.get(name, {}):
            self._pending.pop(name, None)
        else:
            self._pending[name] = ports
        return bool(self._pending)

    def copy(self) -> ServiceTracker:
        """Another one that knows and has heard the same."""
        twin = ServiceTracker(self.family, self.allow_external_ips, self._views)
        twin.ports, twin._known, twin._pending = dict(self.ports), dict(self._known), dict(self._pending)
        return twin

    def names(self) -> list[ServiceName]:
        """The Services with service ports, as of the last `apply()`."""
        return list(self._known)

    def keys_of(self, name: ServiceName) -> tuple[PortKey, ...]:
        """The service ports of one Service, as of the last `apply()`."""
        return tuple(self._known.get(name, ()))

    def apply(self) -> tuple[list[ServiceName], list[ServicePort]]:
        """Take over what was heard: the names of changed Services, and the UDP service ports that are gone."""
        changed, gone_udp = list(self._pending), []
        for name, ports in self._pending.items():
            for key, port in self._known.pop(name, {}).items():
                self.ports.pop(key)
                if key not in ports and port.protocol == "udp":
                    gone_udp.append(port)
            if ports:
                self._known[name] = ports
                self.ports.update(ports)
        self._pending = {}
        return changed, gone_udp


class SliceTracker:
    """The endpoints of one family by service port, and what was heard since `apply()`."""

    __slots__ = ("_keys", "_pending", "_slices", "_views", "endpoints", "family")

    def __init__(self, family: int, views: ViewCache | None = None) -> None:
        self.family = family
        self.endpoints: dict[PortKey, tuple[Endpoint, ...]] = {}
        self._slices: dict[ServiceName, dict[str, EndpointSliceView]] = {}
        self._pending: dict[ServiceName, dict[str, EndpointSliceView | None]] = {}
        self._keys: dict[ServiceName, tuple[PortKey, ...]] = {}
        self._views = views or ViewCache()

    def update(self, old: Obj | None, new: Obj | None) -> bool:
        """Note an added, changed or deleted EndpointSlice; true if a sync has something to do."""
        obj = new if new is not None else old
        if obj is not None:
            view = self._views.endpoint_slice(obj)
            if view.address_type == FAMILY_NAMES[self.family] and view.service_name and view.meta.name:
                is_there = new is not None and is_watched(view.meta)
                self._note((view.meta.namespace, view.service_name), view.meta.name, view if is_there else None)
        return bool(self._pending)

    def copy(self) -> SliceTracker:
        """Another one that knows and has heard the same."""
        twin = SliceTracker(self.family, self._views)
        twin.endpoints, twin._keys = dict(self.endpoints), dict(self._keys)
        twin._slices = {service: dict(slices) for service, slices in self._slices.items()}
        twin._pending = {service: dict(heard) for service, heard in self._pending.items()}
        return twin

    def names(self) -> list[ServiceName]:
        """The Services with endpoints, as of the last `apply()`."""
        return list(self._keys)

    def _note(self, service: ServiceName, name: str, view: EndpointSliceView | None) -> None:
        pending = self._pending.get(service, {})
        known: EndpointSliceView | None = self._slices.get(service, {}).get(name)
        if view != pending.get(name, known):
            self._pending.setdefault(service, {})[name] = view

    def apply(self) -> tuple[list[ServiceName], bool]:
        """Take over what was heard: the names of the Services it concerns, and whether a UDP port is among them."""
        changed, has_udp = list(self._pending), False
        for service, heard in self._pending.items():
            slices = self._slices.setdefault(service, {})
            for name, view in heard.items():
                if view is None:
                    slices.pop(name, None)
                else:
                    slices[name] = view
            if not slices:
                del self._slices[service]
            before = self._forget(service)
            after = self._merge(service, [slices[name] for name in sorted(slices)])
            has_udp = has_udp or any(protocol == "udp" for _, protocol in (*before, *after))
        self._pending = {}
        return changed, has_udp

    def _forget(self, service: ServiceName) -> tuple[PortKey, ...]:
        """Drop the endpoints of one Service; returns the port keys it had."""
        keys = self._keys.pop(service, ())
        for key in keys:
            del self.endpoints[key]
        return keys

    def _merge(self, service: ServiceName, slices: list[EndpointSliceView]) -> tuple[PortKey, ...]:
        """Set the endpoints of one Service; returns its port keys."""
        merged = merge_slices(service, slices, self.family)
        self.endpoints.update(merged)
        if merged:
            self._keys[service] = tuple(merged)
        return tuple(merged)
