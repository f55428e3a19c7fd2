"""Devices: names, flags, carriers, MTU, offload, cost of the path."""

from __future__ import annotations

import errno
import sys
from types import FrameType

import pytest
from netlab import Lab, lines, sniff

from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import (
    NETIF_F_ALL,
    NETIF_F_TSO,
    dev_change_flags,
    dev_change_name,
    dev_change_net,
    dev_set_addr,
    dev_set_mtu,
    unregister_netdevice,
)
from kubenet.kernel.dev.gso import skb_gso_segment
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import ip_route_output_key
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.wire.addr import ip4, mac
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import ACK, CWR, FIN, PSH, TcpHdr


def error_of(code: int, call, *args) -> None:
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == code


def test_a_veth_has_a_carrier_while_both_ends_are_up() -> None:
    """`ip link`: LOWERLAYERDOWN at the end that is up while the other is down, UP when both are."""
    lab = Lab()
    a, b = create_veth_pair(lab.ns("a"), "eth0", lab.root, "veth1")
    assert (a.operstate, b.operstate) == ("DOWN", "DOWN")
    dev_change_flags(a, True)
    assert (a.operstate, b.operstate, a.carrier) == ("LOWERLAYERDOWN", "DOWN", False)
    dev_change_flags(b, True)
    assert (a.operstate, b.operstate, a.carrier) == ("UP", "UP", True)
    assert lab.root.lo.operstate == "UNKNOWN"


def test_names_indices_and_errors() -> None:
    lab = Lab()
    a, b = create_veth_pair(lab.ns("a"), "eth0", lab.root, "veth1")
    assert (a.net.lo.ifindex, a.ifindex, b.ifindex) == (1, 2, 2)
    error_of(errno.EEXIST, create_veth_pair, lab.root, "veth1", lab.root, "veth2")
    error_of(errno.EEXIST, create_veth_pair, lab.root, "veth3", lab.root, "veth1")
    assert "veth3" not in lab.root.devs
    error_of(errno.EINVAL, dev_change_name, b, "sixteen-letters-")
    error_of(errno.EADDRNOTAVAIL, dev_set_addr, b, mac("01:00:5e:00:00:01"))
    error_of(errno.EINVAL, dev_set_mtu, b, 67)
    dev_change_name(b, "vethA")
    assert list(lab.root.devs) == ["lo", "vethA"]
    assert "vethA" in lab.root.sysctl.conf4 and "veth1" not in lab.root.sysctl.conf4


def test_moving_to_another_namespace_leaves_addresses_behind() -> None:
    lab = Lab()
    a, b = lab.ns("a"), lab.ns("b")
    end, _ = lab.cable(a, "eth0", "10.9.0.1/24", lab.root, "veth1", "10.9.0.2/24")
    dev_change_net(end, b, "net1")
    assert list(a.devs) == ["lo"] and list(b.devs) == ["lo", "net1"]
    assert (end.ifaddrs, end.flags & 1, end.ledger_name) == ([], 0, "node-1/b/net1")
    assert ip4("10.9.0.1") not in a.local_addrs[2]


def test_deleting_one_end_deletes_the_other() -> None:
    lab = Lab()
    a = lab.ns("a")
    end, other = lab.cable(a, "eth0", "10.9.0.1/24", lab.root, "veth1", "10.9.0.2/24")
    unregister_netdevice(other)
    assert "eth0" not in a.devs and "veth1" not in lab.root.devs
    with pytest.raises(OSError):
        ip_route_output_key(a, ip4("10.9.0.2"))


def test_a_smaller_veth_end_is_a_black_hole() -> None:
    """Observed on 6.18: nothing is said; tx_dropped at the sender, rx_dropped at the receiver.

    Up to 4 bytes more pass, the room for a VLAN tag.
    """
    lab = Lab()
    a, b = lab.ns("a"), lab.ns("b")
    end, other = lab.cable(a, "eth0", "10.9.0.1/24", b, "eth0", "10.9.0.2/24")
    lab.ping(a, "10.9.0.2")
    dev_set_mtu(other, 1400)
    assert len(lab.ping(a, "10.9.0.2", size=1372)) == 1
    seen = sniff(other)
    lab.send(a, "10.9.0.2", size=1384)
    assert len([line for line in lines(seen) if "<" in line and "arp" not in line]) == 1  # 1404 bytes pass
    assert lab.send(a, "10.9.0.2", size=1385) == -errno.ENOBUFS
    assert (end.tx_dropped, other.rx_dropped) == (1, 1)


def test_loopback_carries_what_a_namespace_sends_itself() -> None:
    lab = Lab()
    a, b = lab.ns("a"), lab.ns("b")
    lab.cable(a, "eth0", "10.9.0.1/24", b, "eth0", "10.9.0.2/24")
    seen = sniff(a.lo)
    assert lab.ping(a, "10.9.0.1") == ["64 bytes from 10.9.0.1: ttl=64"]
    assert lab.ping(a, "127.0.0.1") == ["64 bytes from 127.0.0.1: ttl=64"]
    assert len(seen.frames) == 8
    dev_change_flags(a.lo, False)
    assert lab.ping(a, "10.9.0.1") == []


def test_lo_is_not_left_for_an_address_that_is_down() -> None:
    """A machine answers for the addresses of its devices that are down, over lo (observed on 6.18)."""
    lab = Lab()
    end, _ = lab.cable(lab.ns("a"), "eth0", "10.9.0.1/24", lab.root, "veth1", "10.9.0.2/24")
    dev_change_flags(end, False)
    assert lab.ping(end.net, "10.9.0.1") == ["64 bytes from 10.9.0.1: ttl=64"]


# -- segmentation ----------------------------------------------------------------------------------------------------


def super_segment(lab: Lab, net, dst: str, size: int = 4000) -> SkBuff:
    route = ip_route_output_key(net, ip4(dst))
    tcp = TcpHdr(1000, 80, 0xFFFFFF00, 1, ACK | PSH | FIN | CWR, 100)
    skb = SkBuff(net, ETH_P_IP, IpHdr(route.prefsrc, ip4(dst), 6, 9), tcp, bytes(k % 251 for k in range(size)), size, 40 + size)
    skb.gso_size, skb.gso_segs, skb.dst = 1460, -(-size // 1460), route
    return skb


def test_segments_continue_sequence_numbers_ids_and_split_flags() -> None:
    """tcp_gso_segment(): FIN and PSH on the last, CWR on the first, ids count up, payload in order."""
    lab = Lab()
    lab.cable(lab.ns("a"), "eth0", "10.9.0.1/24", lab.root, "veth1", "10.9.0.2/24")
    skb = super_segment(lab, lab.root, "10.9.0.1")
    data = skb.payload
    parts = skb_gso_segment(skb)
    assert [(p.l4.seq, p.ip.id, p.l4.flags, p.plen, p.len) for p in parts] == [
        (0xFFFFFF00, 9, ACK | CWR, 1460, 1500), (0x4B4, 10, ACK, 1460, 1500), (0xA68, 11, ACK | PSH | FIN, 1080, 1120)]
    assert b"".join(bytes(p.payload) for p in parts) == data
    assert {p.id for p in parts} == {skb.id}


@pytest.mark.parametrize("features, frames", [(NETIF_F_ALL, 1), (NETIF_F_ALL & ~NETIF_F_TSO, 3)])
def test_a_device_without_tso_gets_wire_sized_frames(features: int, frames: int) -> None:
    lab = Lab()
    a, b = lab.ns("a"), lab.ns("b")
    end, other = lab.cable(a, "eth0", "10.9.0.1/24", b, "eth0", "10.9.0.2/24")
    lab.ping(a, "10.9.0.2")
    end.features = features
    got = []
    b.inet_protos[6] = (got.append, None)
    ip_local_out(super_segment(lab, a, "10.9.0.2"))
    lab.run(0.1)
    assert len(got) == frames
    assert sum(skb.plen for skb in got) == 4000


# -- the price -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("br_netfilter, most", [(False, 84), (True, 90)])
def test_what_a_forwarded_packet_costs(br_netfilter: bool, most: int) -> None:
    """Pod, veth, bridge, routing, card, two cables and a switch, card, routing, bridge, veth, pod: exact figures, so that
    nobody makes the path longer unknowingly (the aim is 110 calls and 3 events)."""
    from kubenet.fabric.graph import two_nodes
    from kubenet.kernel.ipv4.br_netfilter import br_netfilter_init
    from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
    from kubenet.kernel.ipv4.fib import fib_add
    from kubenet.kernel.stack import new_namespace

    lab = Lab()
    nodes = two_nodes().build(lab.loop).nodes
    pods = []
    for k, node in enumerate(nodes, 1):
        bridge = Bridge(node.net, "cni0")
        dev_change_flags(bridge, True)
        inet_addr_add(bridge, ip4(f"10.48.{k}.1"), 24)
        ip_forward_write(node.net, 1)
        fib_add(node.net, ip4(f"10.48.{3 - k}.0"), 24, gateway=nodes[2 - k].spec.ip)
        if br_netfilter:
            br_netfilter_init(node.net)
        pod = new_namespace(node.host, f"pod-{k}")
        _, outside = lab.cable(pod, "eth0", f"10.48.{k}.5/24", node.net, "veth5", "")
        bridge.add_port(outside)
        fib_add(pod, 0, 0, gateway=ip4(f"10.48.{k}.1"))
        pods.append(pod)
    got: list[SkBuff] = []
    pods[1].inet_protos[253] = (got.append, None)
    for _ in range(2):
        lab.send(pods[0], "10.48.2.5")
    skb = lab.datagram(pods[0], "10.48.2.5")
    calls, step = 0, lab.loop.step

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call" and "kubenet" in frame.f_code.co_filename

    sys.setprofile(count)
    ip_local_out(skb)
    lab.loop.run(until=lab.loop.now + 10**6)
    sys.setprofile(None)
    assert len(got) == 3 and got[-1].ip.ttl == 62
    assert lab.loop.step - step == 3
    assert calls == most - 1  # got.append is not Python
