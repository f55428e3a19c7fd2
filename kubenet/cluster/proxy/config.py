"""kube-proxy's configuration file, as far as it matters here, and what it means on one node.

The cluster's topology may carry a `kubeProxy` section with the names of KubeProxyConfiguration (mode, clusterCIDR,
detectLocalMode, iptables.masqueradeAll, conntrack.maxPerCore, ...). It is the same for all nodes; what differs is read
from the Node: its name, addresses, pod CIDR and topology labels.

    options = options_for_node(config, node, interface_ips)     ProxyOptions
    sysctls = startup_sysctls(options, cpus, conntrack)         what it writes to /proc/sys when it starts

Defaults: detectLocalMode is ClusterCIDR where a clusterCIDR is given. A conntrack value of 0 leaves the kernel's alone.

Source: pkg/proxy/apis/config/v1alpha1 defaults.go, cmd/kube-proxy/app conntrack.go; 1.29 to 1.36 set these exactly,
also downwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.api.views import NodeView
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.errors import ManifestError
from kubenet.units import SEC, parse_duration

MAX_PER_CORE = 32768
MIN_CONNTRACK = 131072
MAX_CONNTRACK = 1048576
_IPTABLES = ("masqueradeAll", "masqueradeBit", "localhostNodePorts", "minSyncPeriod", "syncPeriod")


@dataclass(frozen=True, slots=True)
class ConntrackConfig:
    """The conntrack section. Periods in ns."""

    max_per_core: int = MAX_PER_CORE
    min: int = MIN_CONNTRACK
    tcp_established: int = 86400 * SEC
    tcp_close_wait: int = 3600 * SEC
    tcp_be_liberal: bool = False
    udp: int = 0
    udp_stream: int = 0

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> ConntrackConfig:
        """The section in a kubeProxy mapping. Raises ManifestError."""
        given = config.get("conntrack") or {}

        def period(name: str, default: int) -> int:
            try:
                return default if given.get(name) is None else parse_duration(str(given[name]))
            except ValueError as error:
                raise ManifestError(f"conntrack.{name} cannot be used", field=name, why=str(error)) from None

        return cls(
            MAX_PER_CORE if given.get("maxPerCore") is None else given["maxPerCore"],
            MIN_CONNTRACK if given.get("min") is None else given["min"],
            period("tcpEstablishedTimeout", 86400 * SEC),
            period("tcpCloseWaitTimeout", 3600 * SEC),
            given.get("tcpBeLiberal") is True,
            period("udpTimeout", 0),
            period("udpStreamTimeout", 0),
        )

    def limit(self, cpus: int) -> int:
        """nf_conntrack_max for a machine of so many CPUs; 0 leaves it alone."""
        return max(self.min, min(MAX_CONNTRACK, self.max_per_core * cpus)) if self.max_per_core > 0 else 0


def startup_sysctls(options: ProxyOptions, cpus: int, conntrack: ConntrackConfig | None = None) -> dict[str, int]:
    """The sysctls kube-proxy sets on its node when it starts, in order."""
    given = conntrack or ConntrackConfig()
    head = "net.netfilter.nf_conntrack_"
    values = {
        f"{head}max": given.limit(cpus),
        f"{head}tcp_timeout_established": given.tcp_established // SEC,
        f"{head}tcp_timeout_close_wait": given.tcp_close_wait // SEC,
        f"{head}tcp_be_liberal": int(given.tcp_be_liberal),
        f"{head}udp_timeout": given.udp // SEC,
        f"{head}udp_timeout_stream": given.udp_stream // SEC,
        "net.ipv4.conf.all.route_localnet": int(options.localhost_ports(AF_INET)),
    }
    return {name: value for name, value in values.items() if value}


def _detect_local(config: Mapping[str, Any], node: NodeView) -> dict[str, Any] | None:
    cluster = config.get("clusterCIDR") or ""
    mode = config.get("detectLocalMode") or ("ClusterCIDR" if cluster else "none")
    devices = config.get("detectLocal") or {}
    values = {
        "ClusterCIDR": cluster,
        "NodeCIDR": list(node.pod_cidrs),
        "BridgeInterface": devices.get("bridgeInterface"),
        "InterfaceNamePrefix": devices.get("interfaceNamePrefix"),
    }
    return {"mode": mode, "value": values.get(mode)}


def options_for_node(config: Mapping[str, Any], node: NodeView, interface_ips: Iterable[str] = ()) -> ProxyOptions:
    """What kube-proxy with this configuration works with on this node. Raises ManifestError.

    `interface_ips`: all addresses of the node's devices, loopback's included.
    """
    mode = config.get("mode") or "iptables"
    section = config.get("nftables" if mode == "nftables" else "iptables") or {}
    labels = {key: value for key, value in node.meta.labels.items() if key.startswith("topology.kubernetes.io/")}
    given = {name: section[name] for name in _IPTABLES if name in section}
    return ProxyOptions.parse(
        {
            **given,
            "nodeName": node.meta.name,
            "nodeIP": list(node.internal_ips),
            "nodeIPs": list(interface_ips),
            "topologyLabels": labels,
            "detectLocal": _detect_local(config, node),
            "nodePortAddresses": config.get("nodePortAddresses"),
            "conntrackTCPBeLiberal": ConntrackConfig.parse(config).tcp_be_liberal,
        }
    )
