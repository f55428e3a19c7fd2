"""flannel's vxlan backend: how packets for another node's pods get there when `cniMode` is vxlan.

    cni0 -> routing -> 10.48.2.0/24 via 10.48.2.0 dev flannel.1 onlink      the other node's subnet, behind its own first address
                    -> ARP entry, permanent: 10.48.2.0 is at node-2's VTEP
                    -> FDB entry, permanent: that MAC is behind 172.18.0.3  -> UDP 8472 through eth0

Each node's flanneld makes flannel.1 (VNI 1, no learning, 50 bytes less MTU, the subnet's .0 as its address) and says in annotations
of its Node who it is. The controller gives every node, for every other Node there is, those three entries; a Node that goes takes
them along. Nothing is broadcast, nothing is learned.

Sources: flannel pkg/backend/vxlan (device.go, vxlan_network.go handleSubnetEvents()), pkg/subnet/kube: what they configure, read back
with ip(8) and bridge(8).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubenet.cluster.controller import Controller
from kubenet.cluster.store import Key, Store
from kubenet.kernel.dev.device import IFF_UP, dev_change_flags
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.fib import fib_add, fib_del
from kubenet.kernel.ipv4.neigh import NUD_PERMANENT, neigh_set_static
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.vxlan.device import VXLAN_HEADROOM, Vxlan, VxlanConfig
from kubenet.kernel.vxlan.fdb import NLM_F_CREATE, NLM_F_REPLACE, VxlanRdst
from kubenet.wire.addr import ip4, mac, mac_text, parse_cidr

Obj = dict[str, Any]

HOST_GW, VXLAN = "host-gw", "vxlan"
MODES = (HOST_GW, VXLAN)
DEVICE, VNI = "flannel.1", 1
PREFIX = "flannel.alpha.coreos.com/"


@dataclass(frozen=True)
class Peer:
    """Another node: its pods' subnet, its address, the MAC of its flannel.1."""

    subnet: str
    public_ip: str
    vtep_mac: str


class Flannel:
    """One node's flanneld."""

    def __init__(self, net: NetNamespace, uplink: str, node_ip: str, pod_cidr: str) -> None:
        self.net = net
        self.node_ip = node_ip
        self.peers: dict[str, Peer] = {}
        link = net.devs[uplink]
        cfg = VxlanConfig(VNI, local=ip4(node_ip), link=link, learning=False)
        self.device = Vxlan(net, DEVICE, cfg, link.mtu - VXLAN_HEADROOM)
        inet_addr_add(self.device, parse_cidr(pod_cidr)[0], 32)
        dev_change_flags(self.device, True)

    def annotations(self) -> dict[str, str]:
        """What the node's own Node object says about it."""
        data = json.dumps({"VNI": VNI, "VtepMAC": mac_text(self.device.addr)}, separators=(",", ":"))
        return {PREFIX + "backend-data": data, PREFIX + "backend-type": VXLAN, PREFIX + "kube-subnet-manager": "true",
                PREFIX + "public-ip": self.node_ip}

    def set_peers(self, wanted: Mapping[str, Peer]) -> None:
        """Exactly these nodes are reached through the tunnel; not while somebody has deleted it or set it down."""
        if self.net.devs.get(DEVICE) is not self.device or not self.device.flags & IFF_UP:
            return
        for name, peer in list(self.peers.items()):
            if wanted.get(name) != peer:
                self._remove(peer)
                del self.peers[name]
        for name, peer in wanted.items():
            if name not in self.peers:
                self._add(peer)
                self.peers[name] = peer

    def _add(self, peer: Peer) -> None:
        """Linux as flannel leaves it: `ip neigh replace`, `bridge fdb replace`, `ip route replace ... onlink`."""
        base, plen = parse_cidr(peer.subnet)
        vtep = mac(peer.vtep_mac)
        neigh_set_static(self.net.neigh[AF_INET], self.device, base, vtep)
        self.device.fdb.update(vtep, VxlanRdst(ip4(peer.public_ip)), NUD_PERMANENT, NLM_F_CREATE | NLM_F_REPLACE)
        fib_add(self.net, base, plen, gateway=base, dev=self.device, onlink=True, replace=True)

    def _remove(self, peer: Peer) -> None:
        """Whatever of it is still there."""
        base, plen = parse_cidr(peer.subnet)
        vtep = mac(peer.vtep_mac)
        neigh = self.net.neigh[AF_INET].lookup(self.device, base)
        if neigh is not None:
            self.net.neigh[AF_INET].remove(neigh)
        if self.device.fdb.find(vtep) is not None:
            self.device.fdb.delete(vtep, VxlanRdst(ip4(peer.public_ip)))
        try:
            fib_del(self.net, base, plen, gateway=base, dev=self.device)
        except OSError:
            pass  # somebody deleted the route; it is gone, as it should be


def peer_of(node: Obj) -> Peer | None:
    """What a Node says about its flannel; None if it has none, or no subnet yet."""
    notes = node["metadata"].get("annotations") or {}
    subnet = node["spec"].get("podCIDR")
    if notes.get(PREFIX + "backend-type") != VXLAN or not subnet:
        return None
    try:
        return Peer(subnet, notes[PREFIX + "public-ip"], json.loads(notes[PREFIX + "backend-data"])["VtepMAC"])
    except (KeyError, TypeError, ValueError):
        return None


class FlannelController(Controller):
    """Every node's flanneld, watching Nodes."""

    name = "flannel"
    kinds = ("Node",)

    def __init__(self, store: Store, nodes: Mapping[str, Flannel]) -> None:
        super().__init__(store)
        self.nodes = nodes

    def reconcile(self, key: Key) -> int | None:
        peers = {node["metadata"]["name"]: peer for node in self.store.list("Node") if (peer := peer_of(node)) is not None}
        for name, flannel in self.nodes.items():
            flannel.set_peers({other: peer for other, peer in peers.items() if other != name})
        return None
