"""Typed views of stored objects: what controllers, the proxy and DNS read.

Stored objects are plain dicts, exactly as the client sent them plus defaults. Reading them by string keys all over
the code would spell every API default a dozen times; a view spells it once. Views are small records made from a dict
in one go; they never change, and they keep no reference to the dict.

    views = ViewCache()                  one per store
    service = views.service(obj)         made once per resourceVersion of that object
    ServiceView.of(obj)                  the same without the cache

Absent fields take their API defaults (protocol TCP, type ClusterIP, both traffic policies Cluster, session affinity
None with 10800 s, namespace "default", clusterIPs = [clusterIP], a port or condition without a value as the API
reads it). A null is as good as absent. Addresses stay texts where the API allows nonsense; `cluster_ip(family)` and
the functions of `ips` make them numbers.

Left out: every field nobody here reads. Add it when somebody does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kubenet.cluster.api.ips import FAMILY_NAMES, Ip, ips_of_family, parse_ip

Obj = Mapping[str, Any]

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ZONE_LABEL = "topology.kubernetes.io/zone"
DEFAULT_AFFINITY_SECONDS = 10800

_V = TypeVar("_V")
_NONE: Obj = {}


def _section(obj: Obj, name: str) -> Obj:
    found = obj.get(name)
    return found if isinstance(found, Mapping) else _NONE


def _items(obj: Obj, name: str) -> tuple[Obj, ...]:
    found = obj.get(name)
    return tuple(item for item in found if isinstance(item, Mapping)) if isinstance(found, list | tuple) else ()


def _texts(obj: Obj, name: str) -> tuple[str, ...]:
    found = obj.get(name)
    return tuple(str(item) for item in found) if isinstance(found, list | tuple) else ()


def _text(obj: Obj, name: str, default: str = "") -> str:
    found = obj.get(name)
    return default if found is None or found == "" else str(found)


def _int(obj: Obj, name: str, default: int = 0) -> int:
    found = obj.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def _labels(obj: Obj, name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in _section(obj, name).items()}


@dataclass(frozen=True, slots=True)
class MetaView:
    """metadata, as far as it is read here."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    labels: dict[str, str]
    annotations: dict[str, str]
    deleting: bool

    @classmethod
    def of(cls, obj: Obj, namespaced: bool = True) -> MetaView:
        """The metadata of `obj`; an absent namespace is "default"."""
        meta = _section(obj, "metadata")
        return cls(
            _text(meta, "namespace", "default") if namespaced else "",
            _text(meta, "name"),
            _text(meta, "uid"),
            _text(meta, "resourceVersion"),
            _labels(meta, "labels"),
            _labels(meta, "annotations"),
            meta.get("deletionTimestamp") is not None,
        )


@dataclass(frozen=True, slots=True)
class ServicePortView:
    """One entry of spec.ports. `target_port` is a number or a container port's name."""

    name: str
    protocol: str
    port: int
    target_port: int | str
    node_port: int
    app_protocol: str

    @classmethod
    def of(cls, obj: Obj) -> ServicePortView:
        """The port with its defaults: TCP, targetPort = port."""
        port = _int(obj, "port")
        target = obj.get("targetPort")
        return cls(
            _text(obj, "name"),
            _text(obj, "protocol", "TCP"),
            port,
            target if isinstance(target, int | str) and target else port,
            _int(obj, "nodePort"),
            _text(obj, "appProtocol"),
        )


@dataclass(frozen=True, slots=True)
class IngressView:
    """One entry of status.loadBalancer.ingress. `ip_mode` is "VIP" unless the object says "Proxy"."""

    ip: str
    hostname: str
    ip_mode: str

    @classmethod
    def of(cls, obj: Obj) -> IngressView:
        """The entry with its default mode."""
        return cls(_text(obj, "ip"), _text(obj, "hostname"), _text(obj, "ipMode", "VIP"))


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A Service."""

    meta: MetaView
    type: str
    cluster_ip: str
    cluster_ips: tuple[str, ...]
    ip_families: tuple[str, ...]
    selector: dict[str, str]
    ports: tuple[ServicePortView, ...]
    external_ips: tuple[str, ...]
    external_name: str
    external_policy: str
    internal_policy: str
    session_affinity: str
    affinity_seconds: int
    source_ranges: tuple[str, ...]
    ingress: tuple[IngressView, ...]
    health_check_node_port: int
    publish_not_ready: bool

    @classmethod
    def of(cls, obj: Obj) -> ServiceView:
        """The Service in `obj`, defaults filled in."""
        spec = _section(obj, "spec")
        cluster_ip = _text(spec, "clusterIP")
        client_ip = _section(_section(spec, "sessionAffinityConfig"), "clientIP")
        return cls(
            meta=MetaView.of(obj),
            type=_text(spec, "type", "ClusterIP"),
            cluster_ip=cluster_ip,
            cluster_ips=_texts(spec, "clusterIPs") or ((cluster_ip,) if cluster_ip else ()),
            ip_families=_texts(spec, "ipFamilies"),
            selector=_labels(spec, "selector"),
            ports=tuple(ServicePortView.of(port) for port in _items(spec, "ports")),
            external_ips=_texts(spec, "externalIPs"),
            external_name=_text(spec, "externalName"),
            external_policy=_text(spec, "externalTrafficPolicy", "Cluster"),
            internal_policy=_text(spec, "internalTrafficPolicy", "Cluster"),
            session_affinity=_text(spec, "sessionAffinity", "None"),
            affinity_seconds=_int(client_ip, "timeoutSeconds", DEFAULT_AFFINITY_SECONDS),
            source_ranges=_texts(spec, "loadBalancerSourceRanges"),
            ingress=tuple(
                IngressView.of(item) for item in _items(_section(_section(obj, "status"), "loadBalancer"), "ingress")
            ),
            health_check_node_port=_int(spec, "healthCheckNodePort"),
            publish_not_ready=spec.get("publishNotReadyAddresses") is True,
        )

    @property
    def is_headless(self) -> bool:
        """Whether DNS answers with the Pods' addresses instead of one of its own."""
        return self.cluster_ip == "None"

    @property
    def is_proxied(self) -> bool:
        """Whether kube-proxy has anything to do with it: it has a clusterIP and is no ExternalName."""
        return self.cluster_ip not in ("", "None") and self.type != "ExternalName"

    def cluster_ip_of(self, family: int) -> Ip | None:
        """The clusterIP of that address family, if there is one."""
        if not self.ip_families:
            mine = ips_of_family((self.cluster_ip,), family)
            return mine[0] if mine else None
        for name, text in zip(self.ip_families, self.cluster_ips, strict=False):
            if name == FAMILY_NAMES[family]:
                try:
                    return parse_ip(text)
                except ValueError:
                    return None
        return None


@dataclass(frozen=True, slots=True)
class SlicePortView:
    """One entry of an EndpointSlice's ports: the number to send to, under a name."""

    name: str
    protocol: str
    port: int

    @classmethod
    def of(cls, obj: Obj) -> SlicePortView:
        """The port with its defaults: no name, TCP, 0 = any (which the proxy ignores)."""
        return cls(_text(obj, "name"), _text(obj, "protocol", "TCP"), _int(obj, "port"))


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of an EndpointSlice. An unknown condition counts as ready and serving, and as not terminating."""

    addresses: tuple[str, ...]
    hostname: str
    node_name: str
    zone: str
    ready: bool
    serving: bool
    terminating: bool
    zone_hints: tuple[str, ...]
    node_hints: tuple[str, ...]
    target: tuple[str, str, str]
    """(kind, namespace, name) of targetRef, or three empty texts."""

    @classmethod
    def of(cls, obj: Obj) -> EndpointView:
        """The endpoint with its conditions' defaults."""
        conditions = _section(obj, "conditions")
        hints = _section(obj, "hints")
        ref = _section(obj, "targetRef")
        return cls(
            addresses=_texts(obj, "addresses"),
            hostname=_text(obj, "hostname"),
            node_name=_text(obj, "nodeName"),
            zone=_text(obj, "zone"),
            ready=conditions.get("ready") is not False,
            serving=conditions.get("serving") is not False,
            terminating=conditions.get("terminating") is True,
            zone_hints=tuple(_text(hint, "name") for hint in _items(hints, "forZones")),
            node_hints=tuple(_text(hint, "name") for hint in _items(hints, "forNodes")),
            target=(_text(ref, "kind"), _text(ref, "namespace"), _text(ref, "name")),
        )


@dataclass(frozen=True, slots=True)
class EndpointSliceView:
    """An EndpointSlice. `service_name` is empty if it belongs to no Service."""

    meta: MetaView
    service_name: str
    address_type: str
    ports: tuple[SlicePortView, ...]
    endpoints: tuple[EndpointView, ...]

    @classmethod
    def of(cls, obj: Obj) -> EndpointSliceView:
        """The slice in `obj`."""
        meta = MetaView.of(obj)
        return cls(
            meta,
            meta.labels.get(SERVICE_NAME_LABEL, ""),
            _text(obj, "addressType"),
            tuple(SlicePortView.of(port) for port in _items(obj, "ports")),
            tuple(EndpointView.of(endpoint) for endpoint in _items(obj, "endpoints")),
        )


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node."""

    meta: MetaView
    zone: str
    pod_cidrs: tuple[str, ...]
    internal_ips: tuple[str, ...]
    taints: tuple[tuple[str, str, str], ...]
    """(key, value, effect)."""
    unschedulable: bool
    ready: bool

    @classmethod
    def of(cls, obj: Obj) -> NodeView:
        """The Node in `obj`; ready means its Ready condition is "True"."""
        meta = MetaView.of(obj, namespaced=False)
        spec, status = _section(obj, "spec"), _section(obj, "status")
        cidr = _text(spec, "podCIDR")
        return cls(
            meta,
            meta.labels.get(ZONE_LABEL, ""),
            _texts(spec, "podCIDRs") or ((cidr,) if cidr else ()),
            tuple(_text(a, "address") for a in _items(status, "addresses") if a.get("type") == "InternalIP"),
            tuple((_text(t, "key"), _text(t, "value"), _text(t, "effect")) for t in _items(spec, "taints")),
            spec.get("unschedulable") is True,
            has_condition(status, "Ready"),
        )


def has_condition(status: Obj, kind: str) -> bool:
    """Whether status.conditions holds `kind` with status "True"."""
    return any(c.get("type") == kind and c.get("status") == "True" for c in _items(status, "conditions"))


@dataclass(frozen=True, slots=True)
class ContainerPortView:
    """One declared port of a container."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class PodView:
    """A Pod, as Services, DNS and the scheduler see it."""

    meta: MetaView
    node_name: str
    phase: str
    pod_ips: tuple[str, ...]
    host_ip: str
    host_network: bool
    hostname: str
    subdomain: str
    ready: bool
    ports: tuple[ContainerPortView, ...]

    @classmethod
    def of(cls, obj: Obj) -> PodView:
        """The Pod in `obj`; podIPs falls back to podIP."""
        spec, status = _section(obj, "spec"), _section(obj, "status")
        pod_ip = _text(status, "podIP")
        return cls(
            MetaView.of(obj),
            _text(spec, "nodeName"),
            _text(status, "phase", "Pending"),
            tuple(_text(ip, "ip") for ip in _items(status, "podIPs")) or ((pod_ip,) if pod_ip else ()),
            _text(status, "hostIP"),
            spec.get("hostNetwork") is True,
            _text(spec, "hostname"),
            _text(spec, "subdomain"),
            has_condition(status, "Ready"),
            tuple(
                ContainerPortView(_text(port, "name"), _text(port, "protocol", "TCP"), _int(port, "containerPort"))
                for container in _items(spec, "containers")
                for port in _items(container, "ports")
            ),
        )


class ViewCache:
    """Views by object and resourceVersion, so that a second reader of the same version gets the same record.

    One per store: a resourceVersion means nothing outside the store that gave it. An object without
    a resourceVersion (read from a file, not from a store) is never cached.
    """

    __slots__ = ("_views",)

    def __init__(self) -> None:
        self._views: dict[tuple[str, str, str], tuple[str, Any]] = {}

    def _get(self, kind: str, obj: Obj, make: Callable[[Obj], _V]) -> _V:
        meta = _section(obj, "metadata")
        version = _text(meta, "resourceVersion")
        if not version:
            return make(obj)
        key = (kind, _text(meta, "namespace"), _text(meta, "name"))
        known = self._views.get(key)
        if known is not None and known[0] == version:
            found: _V = known[1]
            return found
        view = make(obj)
        self._views[key] = (version, view)
        return view

    def service(self, obj: Obj) -> ServiceView:
        """The view of a Service."""
        return self._get("Service", obj, ServiceView.of)

    def endpoint_slice(self, obj: Obj) -> EndpointSliceView:
        """The view of an EndpointSlice."""
        return self._get("EndpointSlice", obj, EndpointSliceView.of)

    def node(self, obj: Obj) -> NodeView:
        """The view of a Node."""
        return self._get("Node", obj, NodeView.of)

    def pod(self, obj: Obj) -> PodView:
        """The view of a Pod."""
        return self._get("Pod", obj, PodView.of)

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """Drop the view of a deleted object."""
        self._views.pop((kind, namespace, name), None)
