"""What kube-proxy is told on its command line, and what it finds out about its node.

A ProxyOptions holds one node's configuration for both address families; what a rule needs is asked of it per family:

    options = ProxyOptions.parse({"nodeName": "node-1", "nodeIP": "172.18.0.2",
                                  "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16"}})
    options.local_match(AF_INET)         LocalMatch("-s 10.48.0.0/16", "! -s 10.48.0.0/16")
    options.mark                         "0x00004000/0x00004000"

detectLocal answers "is the sender a Pod of this cluster (of this node)?". Without an answer for a family, the rules
that ask are left out. nodePortAddresses says on which of the node's own addresses NodePorts answer; nothing given
means all of them, and then the kernel is asked (`--dst-type LOCAL`) instead of listing them.

`nfacct` says whether the two accounting objects exist on the node (a real kube-proxy makes them over netlink and
leaves the matches out if the kernel refuses). `conntrackTCPBeLiberal` is what the sysctl said at start.

Source: pkg/proxy/apis/config, pkg/proxy/util NodePortAddresses, LocalTrafficDetector; defaults of kube-proxy 1.32+.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kubenet.cluster.api.ips import (
    AF_INET,
    AF_INET6,
    FAMILY_BITS,
    LOOPBACK4,
    Cidr,
    Ip,
    cidrs_of_family,
    ips_of_family,
    parse_cidr,
    parse_ip,
)
from kubenet.errors import ManifestError
from kubenet.units import SEC, parse_duration

LOCALHOST_NFACCT = "localhost_nps_accepted_pkts"
INVALID_NFACCT = "ct_state_invalid_dropped_pkts"

LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
FAMILIES = {"ipv4": AF_INET, "ipv6": AF_INET6, "4": AF_INET, "6": AF_INET6}


class LocalMatch(NamedTuple):
    """The iptables arguments that match, and do not match, what a local Pod sends."""

    local: str
    not_local: str


@dataclass(slots=True)
class ProxyOptions:
    """One node's kube-proxy options. Addresses and prefixes are texts of either family until asked for."""

    node_name: str = ""
    node_ip: tuple[str, ...] = ()
    node_ips: tuple[str, ...] = ()
    """The addresses of the node's interfaces: what nodePortAddresses selects from, together with loopback's.

    Where they were not told, node_ip is all there is besides.
    """
    ip_family: int = AF_INET
    topology_labels: dict[str, str] = field(default_factory=dict)
    local_mode: str = ""
    local_value: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    localhost_node_ports: bool = True
    node_port_addresses: tuple[str, ...] = ()
    conntrack_tcp_be_liberal: bool = False
    nfacct: tuple[str, ...] = ()
    random_fully: bool = True
    service_cidrs: tuple[str, ...] = ()
    sync_period: int = 30 * SEC
    min_sync_period: int = 1 * SEC
    allow_external_ips: bool = True
    clean_empty_udp_services: bool = False
    """Delete conntrack entries of UDP services without a serving endpoint too (after 1.36)."""

    @classmethod
    def parse(cls, data: Mapping[str, Any], file: str = "") -> ProxyOptions:
        """The options in a mapping with the documented names (nodeName, detectLocal, ...). Raises ManifestError."""
        return _Reader(data, file).options()

    @property
    def mark(self) -> str:
        """The masquerade mark alone, as kube-proxy writes it: 0x00004000 for bit 14."""
        return f"0x{1 << self.masquerade_bit:08x}"

    def local_match(self, family: int) -> LocalMatch | None:
        """How to tell local Pods of this family, or None where nothing was told."""
        if self.local_mode in ("ClusterCIDR", "NodeCIDR"):
            cidrs = cidrs_of_family(self.local_value, family)
            return LocalMatch(f"-s {cidrs[0].text}", f"! -s {cidrs[0].text}") if cidrs else None
        if self.local_mode and self.local_value:
            device = self.local_value[0] + ("+" if self.local_mode == "InterfaceNamePrefix" else "")
            return LocalMatch(f"-i {device}", f"! -i {device}")
        return None

    def node_ip_of(self, family: int) -> Ip:
        """The node's own address of that family; loopback if it has none, as kube-proxy assumes."""
        outside = [ip for ip in ips_of_family(self.node_ips, family) if not ip.is_loopback]
        own = [*ips_of_family(self.node_ip, family), *outside]
        return own[0] if own else parse_ip("127.0.0.1" if family == AF_INET else "::1")

    def _node_port_cidrs(self, family: int) -> tuple[Cidr, ...]:
        texts = self.node_port_addresses
        if texts == ("primary",):
            own = self.node_ip_of(family)
            texts = () if own.is_loopback else (f"{own.text}/{FAMILY_BITS[family]}",)  # none: as if nothing was given
        return cidrs_of_family(texts, family) or (parse_cidr("0.0.0.0/0" if family == AF_INET else "::/0"),)

    def node_port_ips(self, family: int) -> list[Ip] | None:
        """The addresses NodePorts answer on, sorted by text; None means every address of the node."""
        cidrs = self._node_port_cidrs(family)
        if any(cidr.plen == 0 for cidr in cidrs):
            return None
        own = ips_of_family((*(self.node_ips or self.node_ip), "127.0.0.1", "::1"), family)  # lo is on every node
        found = {ip.text: ip for ip in own if any(cidr.contains(ip) for cidr in cidrs)}
        return [found[text] for text in sorted(found)]

    def localhost_ports(self, family: int) -> bool:
        """Whether NodePorts answer on 127.0.0.1: IPv4, wanted, and a nodePortAddresses prefix reaches there."""
        return (
            family == AF_INET
            and self.localhost_node_ports
            and any(cidr.overlaps(LOOPBACK4) for cidr in self._node_port_cidrs(family))
        )


class _Reader:
    """Turns a mapping into ProxyOptions, naming the field that does not fit."""

    def __init__(self, data: Mapping[str, Any], file: str) -> None:
        self.data = data
        self.file = file

    def _bad(self, name: str, why: str, try_: str = "") -> ManifestError:
        return ManifestError(f"kube-proxy option {name} cannot be used", self.file, field=name, why=why, try_=try_)

    def _flag(self, name: str, default: bool) -> bool:
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._bad(name, f"{value!r} is not true or false", f"{name}: true")
        return value

    def _name(self, name: str) -> str:
        value = self.data.get(name)
        if value is not None and not isinstance(value, str):
            raise self._bad(name, f"{value!r} is not a text")
        return value or ""

    def _list(self, name: str, value: Any) -> tuple[str, ...]:
        """A list of texts, or one text with commas."""
        if value is None:
            return ()
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._bad(name, f"{value!r} is not a list of texts")
        return tuple(item.strip() for item in value if item.strip())

    def _ips(self, name: str) -> tuple[str, ...]:
        texts = self._list(name, self.data.get(name))
        for text in texts:
            self._try(name, parse_ip, text)
        return texts

    def _cidrs(self, name: str, value: Any) -> tuple[str, ...]:
        texts = self._list(name, value)
        for text in texts:
            self._try(name, parse_cidr, text)
        return texts

    def _try(self, name: str, read: Any, text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise self._bad(name, str(error)) from None

    def _period(self, name: str, default: int) -> int:
        value = self.data.get(name)
        return default if value is None else int(self._try(name, parse_duration, str(value)))

    def _family(self) -> int:
        value = self.data.get("ipFamily")
        if value is None:
            return AF_INET
        found = FAMILIES.get(str(value).lower())
        if found is None:
            raise self._bad("ipFamily", f"{value!r} is no address family", "ipFamily: IPv4")
        return found

    def _local(self) -> tuple[str, tuple[str, ...]]:
        given = self.data.get("detectLocal")
        if given is None:
            return "", ()
        if not isinstance(given, Mapping):
            raise self._bad("detectLocal", "it is not a mapping", "detectLocal: {mode: ClusterCIDR, value: 10.0.0.0/8}")
        self._known("detectLocal.", given, ("mode", "value"))
        wanted = str(given.get("mode") or "")
        if wanted.lower() in ("", "none"):
            return "", ()
        mode = next((mode for mode in LOCAL_MODES if mode.lower() == wanted.lower()), "")
        if not mode:
            raise self._bad("detectLocal.mode", f"{wanted!r} is none of {', '.join(LOCAL_MODES)}, none")
        value = given.get("value")
        is_prefix = mode in ("ClusterCIDR", "NodeCIDR")
        read = self._cidrs if is_prefix else self._list
        return mode, read("detectLocal.value", value)

    def _bit(self) -> int:
        value = self.data.get("masqueradeBit", 14)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 31:
            raise self._bad("masqueradeBit", f"{value!r} is not a bit number from 0 to 31", "masqueradeBit: 14")
        return value

    def _nfacct(self) -> tuple[str, ...]:
        """true and false stand for both objects and none; a list names those that exist."""
        value = self.data.get("nfacct")
        if value is None or isinstance(value, bool):
            return (LOCALHOST_NFACCT, INVALID_NFACCT) if value else ()
        if isinstance(value, Mapping):
            value = [name for name, exists in value.items() if exists]
        return self._list("nfacct", value)

    def _labels(self) -> dict[str, str]:
        given = self.data.get("topologyLabels")
        if given is not None and not isinstance(given, Mapping):
            raise self._bad("topologyLabels", f"{given!r} is not a mapping")
        return {str(key): str(value) for key, value in (given or {}).items()}

    def _known(self, prefix: str, given: Mapping[str, Any], names: tuple[str, ...]) -> None:
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(str(name), names, 1)
                raise self._bad(f"{prefix}{name}", "there is no such option", f"{prefix}{near[0]}" if near else "")

    def options(self) -> ProxyOptions:
        """All of it; an unknown name is an error, never passed over."""
        if not isinstance(self.data, Mapping):
            raise ManifestError("kube-proxy options cannot be read", self.file, why="they are not a mapping")
        self._known("", self.data, NAMES)
        addresses = self._list("nodePortAddresses", self.data.get("nodePortAddresses"))
        if addresses != ("primary",):
            self._cidrs("nodePortAddresses", addresses)
        mode, value = self._local()
        return ProxyOptions(
            node_name=self._name("nodeName"),
            node_ip=self._ips("nodeIP"),
            node_ips=self._ips("nodeIPs"),
            ip_family=self._family(),
            topology_labels=self._labels(),
            local_mode=mode,
            local_value=value,
            masquerade_all=self._flag("masqueradeAll", False),
            masquerade_bit=self._bit(),
            localhost_node_ports=self._flag("localhostNodePorts", True),
            node_port_addresses=addresses,
            conntrack_tcp_be_liberal=self._flag("conntrackTCPBeLiberal", False),
            nfacct=self._nfacct(),
            random_fully=self._flag("randomFully", True),
            service_cidrs=self._cidrs("serviceCIDRs", self.data.get("serviceCIDRs")),
            sync_period=self._period("syncPeriod", 30 * SEC),
            min_sync_period=self._period("minSyncPeriod", 1 * SEC),
            allow_external_ips=self._flag("allowServiceExternalIPs", True),
            clean_empty_udp_services=self._flag("cleanEmptyUDPServices", False),
        )


NAMES = (
    "nodeName",
    "nodeIP",
    "nodeIPs",
    "ipFamily",
    "topologyLabels",
    "detectLocal",
    "masqueradeAll",
    "masqueradeBit",
    "localhostNodePorts",
    "nodePortAddresses",
    "conntrackTCPBeLiberal",
    "nfacct",
    "randomFully",
    "serviceCIDRs",
    "syncPeriod",
    "minSyncPeriod",
    "allowServiceExternalIPs",
    "cleanEmptyUDPServices",
)
