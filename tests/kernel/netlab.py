"""A small laboratory for tests of devices and IPv4: namespaces, cables, and packets of a protocol nobody else uses.

    lab = Lab()
    client, router, server = lab.routed()      10.1.0.2 -- 10.1.0.1 router 10.2.0.1 -- 10.2.0.2, as the recordings were made
    lab.ping(client, "10.2.0.2")               sends one echo request, runs, and returns what came of it, as `ping` would say
    lab.moved(router)                          the counters that moved since the last look, as nstat
"""

from __future__ import annotations

from typing import Any

from kubenet.fabric.capture import Recorder
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.dev.veth import Veth, create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.af_ops import ipv4_ops
from kubenet.kernel.ipv4.br_netfilter import br_netfilter_init
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import ip_route_output_key
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC
from kubenet.wire.addr import ip4, ip4_text, mac_text, parse_cidr
from kubenet.wire.arp import ArpHdr
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IP_DF, IpHdr

TEST_PROTO = 253  # RFC 3692: for experiments


class Lab:
    def __init__(self, seed: int = 7) -> None:
        self.loop = EventLoop()
        self.host = Host(self.loop, "node-1", seed)
        self.root = new_namespace(self.host, "node-1")
        self.got: list[str] = []
        self._seen: dict[str, dict[str, int]] = {}
        self._seq = 0

    def ns(self, name: str) -> NetNamespace:
        return new_namespace(self.host, name)

    def cable(self, a: NetNamespace, name_a: str, cidr_a: str, b: NetNamespace, name_b: str, cidr_b: str) -> tuple[Veth, Veth]:
        """A veth pair, both ends up and addressed ("" for none)."""
        ends = create_veth_pair(a, name_a, b, name_b)
        for end, cidr in zip(ends, (cidr_a, cidr_b), strict=True):
            dev_change_flags(end, True)
            if cidr:
                inet_addr_add(end, *parse_cidr(cidr))
        return ends

    def routed(self) -> tuple[NetNamespace, NetNamespace, NetNamespace]:
        client, router, server = self.ns("client"), self.ns("router"), self.ns("server")
        self.cable(client, "eth0", "10.1.0.2/24", router, "c0", "10.1.0.1/24")
        self.cable(server, "eth0", "10.2.0.2/24", router, "s0", "10.2.0.1/24")
        fib_add(client, 0, 0, gateway=ip4("10.1.0.1"))
        fib_add(server, 0, 0, gateway=ip4("10.2.0.1"))
        ip_forward_write(router, 1)
        return client, router, server

    def warm(self, net: NetNamespace, dst: str) -> None:
        """ARP is done on the way to dst and back."""
        self.ping(net, dst)
        for other in self.host.namespaces.values():
            self.moved(other)

    def bridged(self, br_netfilter: bool = False, pods: int = 2) -> tuple[NetNamespace, Bridge, list[NetNamespace]]:
        """A node with cni0 10.48.1.1/24 and pods 10.48.1.5, .6 ... with a default route to it."""
        node = self.root
        bridge = Bridge(node, "cni0")
        dev_change_flags(bridge, True)
        inet_addr_add(bridge, ip4("10.48.1.1"), 24)
        ip_forward_write(node, 1)
        if br_netfilter:
            br_netfilter_init(node)
        out = []
        for k in range(pods):
            pod = self.ns(f"pod-{k + 5}")
            inside, outside = create_veth_pair(pod, "eth0", node, f"veth{k + 5}")
            bridge.add_port(outside)
            dev_change_flags(outside, True)
            dev_change_flags(inside, True)
            inet_addr_add(inside, ip4(f"10.48.1.{k + 5}"), 24)
            fib_add(pod, 0, 0, gateway=ip4("10.48.1.1"))
            out.append(pod)
        return node, bridge, out

    def run(self, seconds: float) -> None:
        self.loop.run(until=self.loop.now + int(seconds * SEC))

    def echo(self, net: NetNamespace, dst: str, size: int = 56, ttl: int = 0, df: bool = True, tos: int = 0,
             source: str = "") -> int:
        """One echo request is sent; what comes back goes to self.got."""
        self._seq += 1
        net.icmp.ping_rcv = self._reply
        net.icmp.raw_err = self._error
        dst_ip = ip4(dst)
        route = ip_route_output_key(net, dst_ip, ip4(source) if source else 0)
        icmp = IcmpHdr(8, 0, 1 << 16 | self._seq)
        return ipv4_ops.send_datagram(net, None, route.prefsrc, dst_ip, 1, icmp, bytes(size), route, ttl, tos, df)

    def ping(self, net: NetNamespace, dst: str, wait: float = 5, **options: Any) -> list[str]:
        self.got.clear()
        self.echo(net, dst, **options)
        self.run(wait)
        return list(self.got)

    def _reply(self, skb: SkBuff) -> bool:
        self.got.append(f"{skb.plen + 8} bytes from {ip4_text(skb.ip.saddr)}: ttl={skb.ip.ttl}")
        return True

    def _error(self, skb: SkBuff, protocol: int, info: int) -> None:
        icmp = skb.l4
        words = {(11, 0): "Time to live exceeded", (11, 1): "Frag reassembly time exceeded",
                 (3, 0): "Destination Net Unreachable", (3, 1): "Destination Host Unreachable",
                 (3, 2): "Destination Protocol Unreachable",
                 (3, 3): "Destination Port Unreachable", (3, 4): f"Frag needed and DF set (mtu = {info})",
                 (3, 13): "Packet filtered"}
        self.got.append(f"From {ip4_text(skb.ip.saddr)} {words[icmp.type, icmp.code]}")

    def datagram(self, net: NetNamespace, dst: str, size: int = 100, source: str = "", frag: int = IP_DF, ttl: int = 64,
                 proto: int = TEST_PROTO) -> SkBuff:
        """A packet of TEST_PROTO, ready for ip_local_out()."""
        route = ip_route_output_key(net, ip4(dst))
        saddr = ip4(source) if source else route.prefsrc
        skb = SkBuff(net, ETH_P_IP, IpHdr(saddr, ip4(dst), proto, 77, frag, ttl), None, bytes(size), size, 20 + size)
        skb.dst = route
        return skb

    def send(self, net: NetNamespace, dst: str, wait: float = 1, **options: Any) -> int:
        result = ip_local_out(self.datagram(net, dst, **options))
        self.run(wait)
        return result

    def moved(self, net: NetNamespace) -> dict[str, int]:
        """Counters that moved, without octets and ECN."""
        old = self._seen.get(net.name, {})
        self._seen[net.name] = dict(net.snmp)
        return {k: v - old.get(k, 0) for k, v in net.snmp.items()
                if v != old.get(k, 0) and "Octets" not in k and "ECT" not in k}


def counters(text: str) -> dict[str, int]:
    """{"IpInReceives": 1} from nstat's words, as recorded."""
    return {name: int(value) for name, _, value in (word.partition("=") for word in text.split()) if "Octets" not in name}


def sniff(*devs: Any) -> Recorder:
    recorder = Recorder()
    for dev in devs:
        recorder.attach(dev)
    return recorder


def lines(recorder: Recorder) -> list[str]:
    """Captured frames in a few words."""
    out = []
    for _, dev, outgoing, skb in recorder.frames:
        arrow = ">" if outgoing else "<"
        if isinstance(skb.ip, ArpHdr):
            arp = skb.ip
            kind = f"who-has {ip4_text(arp.tpa)} tell {ip4_text(arp.spa)}" if arp.op == 1 else f"reply {ip4_text(arp.spa)}"
            unicast = "" if skb.eth.dst == 0xFFFFFFFFFFFF or arp.op == 2 else f" to {mac_text(skb.eth.dst)}"
            out.append(f"{dev} {arrow} arp {kind}{unicast}")
        else:
            out.append(f"{dev} {arrow} {ip4_text(skb.ip.saddr)} {ip4_text(skb.ip.daddr)} ttl {skb.ip.ttl}")
    return out
