"""The CNI plugin: how a pod gets its namespace, its cable and its address. Bridge + host-local IPAM + host-gw routes.

    pod netns          node's netns
    eth0 ---- veth --- cni0 (10.48.k.1/24, bridge) --- routing --- eth0 --- LAN --- other nodes
                                                       10.48.j.0/24 via node-j for every other node

Where `cniMode` is vxlan, flannel.1 takes the place of the routes via the nodes (flannel.py), and everything of the pods has 50 bytes
less MTU.

As flannel's conflist sets it up (bridge plugin with hairpinMode, isDefaultGateway): ip_forward=1, hairpin on for every port,
br_netfilter loaded. A node's veth is named after what it belongs to (seed, host, pod), never after a counter.

Sources: containernetworking/plugins bridge and host-local, flannel's host-gw backend: what they configure, read back with ip(8).
"""

from __future__ import annotations

from kubenet.cluster.ipam import PodIps
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import dev_change_flags, unregister_netdevice
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.br_netfilter import br_netfilter_init
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.fib import fib_add, fib_del
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.stack import delete_namespace, new_namespace
from kubenet.sim.rng import keyed
from kubenet.wire.addr import ip4, parse_cidr

BRIDGE = "cni0"


class Cni:
    """One node's plugin: the bridge, the range of addresses, and what was handed out."""

    def __init__(self, host: Host, net: NetNamespace, pod_cidr: str, mtu: int = 1500, pod_mtu: int = 1500) -> None:
        self.host = host
        self.net = net
        self.pod_cidr = pod_cidr
        self.mtu = mtu
        self.pod_mtu = pod_mtu
        self.base, self.plen = parse_cidr(pod_cidr)
        self.gateway = self.base + 1
        self.ips = PodIps(pod_cidr)
        self.bridge: Bridge | None = None

    def setup(self) -> None:
        """The node forwards, and its bridge is there. The first pod's arrival does this on a real node."""
        net = self.net
        net.sysctl.ipv4.ip_forward = 1
        for conf in net.sysctl.conf4.values():
            conf.forwarding = 1
        br_netfilter_init(net)
        bridge = Bridge(net, BRIDGE, self.mtu)
        inet_addr_add(bridge, self.gateway, self.plen)
        dev_change_flags(bridge, True)
        self.bridge = bridge

    def add_host_gw_route(self, pod_cidr: str, node_ip: int) -> None:
        """Pods of another node are reached through that node. flannel: host-gw."""
        base, plen = parse_cidr(pod_cidr)
        fib_add(self.net, base, plen, gateway=node_ip)

    def del_host_gw_route(self, pod_cidr: str, node_ip: int) -> None:
        """The other node is gone."""
        base, plen = parse_cidr(pod_cidr)
        fib_del(self.net, base, plen, gateway=node_ip)

    def add(self, key: str, wanted: str = "") -> tuple[NetNamespace, str]:
        """Pod `key` has a namespace with eth0, address and default route: (namespace, address as text). PoolFull when full."""
        address = self.ips.allocate(key, wanted)
        pod = new_namespace(self.host, key)
        inside, outside = create_veth_pair(pod, "eth0", self.net, self.veth_name(key), self.pod_mtu)
        assert self.bridge is not None
        self.bridge.add_port(outside, hairpin=True)
        dev_change_flags(outside, True)
        dev_change_flags(inside, True)
        inet_addr_add(inside, ip4(address), self.plen)
        fib_add(pod, 0, 0, gateway=self.gateway)
        return pod, address

    def delete(self, key: str) -> None:
        """The pod's namespace and cable are gone, its address is free. No error if they were not there."""
        outside = self.net.devs.get(self.veth_name(key))
        if outside is not None:
            unregister_netdevice(outside)
        self.ips.release(key)
        pod = self.host.namespaces.get(key)
        if pod is not None:
            delete_namespace(pod)

    def veth_name(self, key: str) -> str:
        """Eight hex digits that belong to this pod on this node."""
        return f"veth{keyed(self.host.seed, self.host.name, 'veth', key) & 0xFFFFFFFF:08x}"
