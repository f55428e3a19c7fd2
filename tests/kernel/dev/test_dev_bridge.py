"""The bridge, and br_netfilter: what spec'd machines do, most of it observed on 6.18 with iptables on a cni0."""

from __future__ import annotations

import errno

import pytest
from netlab import Lab, lines, sniff

from kubenet.kernel.dev.bridge import Bridge, FdbEntry
from kubenet.kernel.dev.device import dev_change_flags, dev_set_addr, dev_set_mtu
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    FORWARD,
    HOOK_NAMES,
    INPUT,
    NFPROTO_IPV4,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    nf_register_net_hook,
)
from kubenet.kernel.skbuff import SkBuff
from kubenet.units import SEC
from kubenet.wire.addr import ip4, ip4_text, mac


def arpless(recorder) -> list[str]:
    return [line for line in lines(recorder) if " arp " not in line]


def test_it_learns_forwards_and_floods() -> None:
    lab = Lab()
    node, bridge, (a, b, c) = lab.bridged(pods=3)
    bystander = sniff(c.devs["eth0"])
    assert lab.ping(a, "10.48.1.6") == ["64 bytes from 10.48.1.6: ttl=64"]
    assert lines(bystander) == ["eth0 < arp who-has 10.48.1.6 tell 10.48.1.5"]  # the broadcast, nothing else
    ports = {mac_: e.port.dev.name for mac_, e in bridge.fdb.items() if e.port is not None and not e.is_local}
    assert ports == {a.devs["eth0"].addr: "veth5", b.devs["eth0"].addr: "veth6"}


def test_an_address_is_forgotten_after_300_seconds_and_then_flooded() -> None:
    lab = Lab()
    node, bridge, (a, b, c) = lab.bridged(pods=3)
    lab.ping(a, "10.48.1.6", wait=0.5)
    for pod in (a, b):
        for neigh in pod.neigh[2].dump():
            neigh.timer.cancel()  # keep ARP quiet while time passes
    lab.run(299)
    assert len(bridge.fdb_entries()) == 3 + 2  # the ports' own, a's and b's
    lab.run(2)
    assert len(bridge.fdb_entries()) == 3
    bystander = sniff(c.devs["eth0"])
    lab.send(a, "10.48.1.6", wait=0.1)
    assert arpless(bystander) == ["eth0 < 10.48.1.5 10.48.1.6 ttl 64"]
    assert "IpInReceives" not in lab.moved(c)  # it is another's MAC: OTHERHOST


def test_it_takes_the_lowest_mac_and_mtu_of_its_ports() -> None:
    """br_stp_recalculate_bridge_id(), br_mtu_auto_adjust()."""
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    ports = [node.devs["veth5"], node.devs["veth6"]]
    assert bridge.addr == min(p.addr for p in ports)
    dev_set_mtu(ports[1], 1450)
    assert bridge.mtu == 1450
    dev_set_addr(bridge, mac("02:00:00:00:00:01"))
    assert lab.ping(a, "10.48.1.1") == ["64 bytes from 10.48.1.1: ttl=64"]
    bridge.del_port(ports[0])
    assert bridge.addr == mac("02:00:00:00:00:01")
    assert ports[0].addr not in bridge.fdb


def test_carrier_follows_the_ports() -> None:
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    assert (bridge.carrier, bridge.operstate) == (True, "UP")
    dev_change_flags(a.devs["eth0"], False)
    dev_change_flags(node.devs["veth6"], False)
    assert (bridge.carrier, bridge.operstate) == (False, "DOWN")


def test_what_cannot_be_a_port() -> None:
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    for dev, code in ((node.lo, errno.EINVAL), (Bridge(node, "br1"), errno.ELOOP), (node.devs["veth5"], errno.EBUSY)):
        with pytest.raises(OSError) as caught:
            bridge.add_port(dev)
        assert caught.value.errno == code


@pytest.mark.parametrize("hairpin", [False, True])
def test_a_frame_goes_back_through_its_port_only_with_hairpin(hairpin: bool) -> None:
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    bridge.ports["veth5"].hairpin = hairpin
    lab.ping(a, "10.48.1.6")
    # a second machine behind the same port
    bridge.fdb[mac("02:00:00:00:00:aa")] = FdbEntry(mac("02:00:00:00:00:aa"), bridge.ports["veth5"], lab.loop.now)
    a.neigh[2].lookup(a.devs["eth0"], ip4("10.48.1.6")).ha = mac("02:00:00:00:00:aa")
    back = sniff(a.devs["eth0"])
    lab.send(a, "10.48.1.6", wait=0.1)
    assert ("eth0 < 10.48.1.5 10.48.1.6 ttl 64" in lines(back)) is hairpin


def test_a_frame_larger_than_the_port_is_dropped_silently() -> None:
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    lab.ping(a, "10.48.1.6")
    bridge.mtu_set = True
    dev_set_mtu(node.devs["veth6"], 1400)
    assert lab.ping(a, "10.48.1.6", size=1400, wait=1) == []
    assert len(lab.ping(a, "10.48.1.6", size=1300, wait=1)) == 1


# -- br_netfilter ----------------------------------------------------------------------------------------------------


class Spy:
    """Hooks of the node: which were asked, with which devices; and a DNAT/un-DNAT of one address, as conntrack would do it."""

    def __init__(self, node, vip: str = "", target: str = "") -> None:
        self.seen: list[str] = []
        self.vip, self.target = (ip4(vip), ip4(target)) if vip else (0, 0)
        for hook in (PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING):
            nf_register_net_hook(node, NFPROTO_IPV4, hook, 0, self.look, "spy")

    def look(self, skb: SkBuff, hook: int) -> int:
        names = [dev.name if dev is not None else "-" for dev in (skb.indev, skb.outdev)]
        note = skb.nf_bridge
        phys = ""
        if note is not None:
            phys = f" phys {note.physindev.name}"
            if note.physoutdev is not None:
                phys += f">{note.physoutdev.name}"
        self.seen.append(f"{HOOK_NAMES[hook]} {names[0]}>{names[1]} {ip4_text(skb.ip.saddr)}>{ip4_text(skb.ip.daddr)}{phys}")
        if hook == PREROUTING and self.vip and skb.ip.daddr == self.vip:
            skb.ip.daddr = self.target
        elif hook == POSTROUTING and self.vip and skb.ip.saddr == self.target and skb.l4 is not None and skb.l4.type == 0:
            skb.ip.saddr = self.vip
        return ACCEPT


def test_bridged_packets_pass_the_ip_hooks_with_the_bridge_as_device() -> None:
    lab = Lab()
    node, bridge, (a, b) = lab.bridged(br_netfilter=True)
    lab.ping(a, "10.48.1.6")
    spy = Spy(node)
    lab.send(a, "10.48.1.6", wait=0.1)
    flow = "10.48.1.5>10.48.1.6"
    assert spy.seen[:3] == [f"PREROUTING cni0>- {flow} phys veth5", f"FORWARD cni0>cni0 {flow} phys veth5>veth6",
                            f"POSTROUTING ->cni0 {flow} phys veth5>veth6"]


def test_hooks_are_not_run_twice_for_packets_that_go_up_or_come_down() -> None:
    """ip_sabotage_in(): PREROUTING once; what the node sends itself has no physical port."""
    lab = Lab()
    node, bridge, (a, b) = lab.bridged(br_netfilter=True)
    lab.ping(a, "10.48.1.1")
    spy = Spy(node)
    assert lab.ping(a, "10.48.1.1", wait=0.1) == ["64 bytes from 10.48.1.1: ttl=64"]
    assert spy.seen == ["PREROUTING cni0>- 10.48.1.5>10.48.1.1 phys veth5", "INPUT cni0>- 10.48.1.5>10.48.1.1",
                        "OUTPUT ->cni0 10.48.1.1>10.48.1.5", "POSTROUTING ->cni0 10.48.1.1>10.48.1.5"]


def test_bridge_nf_call_iptables_0_hides_bridged_packets() -> None:
    lab = Lab()
    node, bridge, (a, b) = lab.bridged(br_netfilter=True)
    node.sysctl.bridge.bridge_nf_call_iptables = 0
    lab.ping(a, "10.48.1.6")
    spy = Spy(node)
    assert lab.ping(a, "10.48.1.6", wait=0.1) == ["64 bytes from 10.48.1.6: ttl=64"]
    assert spy.seen == []


def test_dnat_to_a_pod_on_the_same_bridge_is_bridged() -> None:
    """Observed on 6.18: TTL stays 64; the bridge asks for the pod's MAC itself; the first frame leaves through cni0 with cni0's
    MAC and arrives with the client's; later frames never touch cni0."""
    lab = Lab()
    node, bridge, (a, b) = lab.bridged(br_netfilter=True)
    a.icmp.ping_rcv = lab._reply
    Spy(node, "10.96.0.1", "10.48.1.6")
    at_bridge, at_pod = sniff(bridge), sniff(b.devs["eth0"])
    assert lab.ping(a, "10.96.0.1", wait=0.5) == ["64 bytes from 10.96.0.1: ttl=64"]
    assert "cni0 > arp who-has 10.48.1.6 tell 10.48.1.1" in lines(at_bridge)
    detour = [f[3] for f in at_bridge.frames if f[2] and f[3].protocol == 0x800]
    arrived = [f[3] for f in at_pod.frames if not f[2] and f[3].protocol == 0x800]
    assert [(d.eth.src, d.ip.ttl) for d in detour] == [(bridge.addr, 64)]
    assert [(d.eth.src, d.ip.ttl) for d in arrived] == [(a.devs["eth0"].addr, 64)]
    at_bridge.frames.clear()
    assert lab.ping(a, "10.96.0.1", wait=0.1) == ["64 bytes from 10.96.0.1: ttl=64"]
    assert [f for f in at_bridge.frames if f[3].protocol == 0x800] == []


def test_dnat_elsewhere_is_routed() -> None:
    """TTL 63, through the node's FORWARD with different devices."""
    lab = Lab()
    node, bridge, (a, b) = lab.bridged(br_netfilter=True)
    far = lab.ns("far")
    lab.cable(node, "eth1", "10.7.0.1/24", far, "eth0", "10.7.0.2/24")
    spy = Spy(node, "10.96.0.1", "10.7.0.2")
    at_far = sniff(far.devs["eth0"])
    lab.send(a, "10.96.0.1")
    assert "eth0 < 10.48.1.5 10.7.0.2 ttl 63" in lines(at_far)
    assert [s.split()[:2] for s in spy.seen[:3]] == [["PREROUTING", "cni0>-"], ["FORWARD", "cni0>eth1"],
                                                     ["POSTROUTING", "->eth1"]]


def test_dnat_back_to_the_sender_needs_hairpin_mode() -> None:
    """A pod that calls itself through a Service: the request must leave by the port it came in on."""
    for hairpin in (False, True):
        lab = Lab()
        node, bridge, (a, b) = lab.bridged(br_netfilter=True)
        lab.ping(a, "10.48.1.1")
        bridge.ports["veth5"].hairpin = hairpin
        Spy(node, "10.96.0.1", "10.48.1.5")
        inside = sniff(a.devs["eth0"])
        lab.moved(a)
        lab.send(a, "10.96.0.1", wait=0.1)
        assert ("eth0 < 10.48.1.5 10.48.1.5 ttl 64" in lines(inside)) is hairpin
        assert lab.moved(a).get("IpInReceives", 0) == int(hairpin)  # and dropped: its source is the pod's own address
        assert "IpInDelivers" not in lab.moved(a)


def test_without_br_netfilter_dnat_routes_and_the_answer_is_bridged_past_the_node() -> None:
    """bridge-nf-call-iptables=0: TTL 63 on the way there, redirects to the client, and the answer keeps the pod's address."""
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    inet_addr_add(b.lo, ip4("10.96.0.77"), 32)
    Spy(node, "10.96.0.1", "10.48.1.6")
    at_pod, at_client = sniff(b.devs["eth0"]), sniff(a.devs["eth0"])
    assert lab.ping(a, "10.96.0.1", wait=1) == ["64 bytes from 10.48.1.6: ttl=64"]
    assert "eth0 < 10.48.1.5 10.48.1.6 ttl 63" in lines(at_pod)
    assert any(f[3].protocol == 0x800 and f[3].l4.type == 5 for f in at_client.frames)
    assert lab.loop.now < 2 * SEC
