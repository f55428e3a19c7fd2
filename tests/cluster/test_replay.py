"""Frames of a capture file received by a device: which, when, and what becomes of them. tcpreplay(1), tcprewrite(1) for the options."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet import Cluster
from kubenet.cluster.replay import FrameReplay, Options, from_journal, plan_frames, to_journal
from kubenet.errors import NotFoundError, UsageError
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import NetDevice, dev_change_flags
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.br_netfilter import br_netfilter_init
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.stack import new_namespace
from kubenet.kernel.vxlan.device import Vxlan, VxlanConfig
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC, SEC
from kubenet.wire.addr import ip4
from kubenet.wire.ethernet import EthHdr
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.packet import frame_to_bytes
from kubenet.wire.pcap import DIR_IN, DIR_OUT, Interface, PcapngWriter
from kubenet.wire.tcp import TcpHdr
from kubenet.wire.udp import UdpHdr
from kubenet.wire.vxlan import VxlanHdr, build_vxlan

ME, PEER = 0x020000000005, 0x020000000009


def echo(dst: int = ME, saddr: str = "10.48.1.9", daddr: str = "10.48.1.5", seq: int = 1) -> bytes:
    return frame_to_bytes(EthHdr(dst, PEER, 0x0800), IpHdr(ip4(saddr), ip4(daddr), 1), IcmpHdr(8, 0, 7 << 16 | seq), None, b"abcd")


def capture(frames: list[tuple[int, bytes]], interfaces: tuple[str | Interface, ...] = ("eth0",), **more: Any) -> bytes:
    out = BytesIO()
    writer = PcapngWriter(out, interfaces)
    for when, data in frames:
        writer.write(0, when, data, **more)
    return out.getvalue()


class World:
    """A namespace with eth0 (02:..:05, 10.48.1.5/24) and what else a node has: cni0 with a port, flannel.1, rules, conntrack."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        host = Host(self.loop, "node-1")
        self.net, self.far = new_namespace(host, "node-1"), new_namespace(host, "far")
        self.eth0 = self.cable("eth0", "10.48.1.5", 24)
        self.eth0.addr = ME
        ip_forward_write(self.net, 1)
        br_netfilter_init(self.net)
        bridge = Bridge(self.net, "cni0")
        inet_addr_add(bridge, ip4("10.48.2.1"), 24)
        dev_change_flags(bridge, True)
        for name in ("veth1", "veth2"):
            bridge.add_port(self.cable(name), hairpin=True)
        vxlan = Vxlan(self.net, "flannel.1", VxlanConfig(1, local=ip4("10.48.1.5"), link=self.eth0))
        inet_addr_add(vxlan, ip4("10.48.3.0"), 32)
        dev_change_flags(vxlan, True)
        for words in ("-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.48.2.9:8080",
                      "-t nat -A POSTROUTING -m mark --mark 1 -j MASQUERADE", "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
                      "-A INPUT -p udp -m multiport --dports 1,2 -j REJECT", "-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT"):
            assert iptables_command(self.net, 2, words.split())[0] == 0

    def cable(self, name: str, addr: str = "", plen: int = 0) -> NetDevice:
        mine, other = create_veth_pair(self.net, name, self.far, name)
        for dev in (mine, other):
            dev_change_flags(dev, True)
        if addr:
            inet_addr_add(mine, ip4(addr), plen)
        return mine

    def receive(self, dev: NetDevice, frames: list[tuple[int, bytes]], fix: bool = False) -> FrameReplay:
        replay = FrameReplay(dev, frames, fix)
        replay.start()
        while not replay.done:
            self.loop.run()
        self.loop.run(until=self.loop.now + 40 * SEC)
        return replay


@pytest.fixture
def world() -> World:
    return World()


def test_frames_come_at_the_files_relative_times(world: World) -> None:
    file = capture([(5 * SEC, echo(seq=1)), (5 * SEC + 3 * MSEC, echo(seq=2)), (5 * SEC + MSEC, echo(seq=3))])
    assert [when for when, _ in plan_frames(file, Options(), world.eth0).frames] == [0, 3 * MSEC, 3 * MSEC]  # time does not go back
    assert [when for when, _ in plan_frames(file, Options(speed=2), world.eth0).frames] == [0, 3 * MSEC // 2, 3 * MSEC // 2]
    assert [when for when, _ in plan_frames(file, Options(asap=True), world.eth0).frames] == [0, 0, 0]
    assert len(plan_frames(file, Options(limit=2), world.eth0).frames) == 2


def test_a_received_frame_is_answered_by_the_stack(world: World) -> None:
    """An echo request for us: IcmpInEchos, one answer (for which ARP asks in vain); rx counters as ip -s link has them."""
    before = world.eth0.rx_packets
    replay = world.receive(world.eth0, plan_frames(capture([(0, echo())]), Options(), world.eth0).frames)
    assert world.eth0.rx_packets == before + 1 and world.net.snmp["IcmpInEchos"] == 1 and world.net.snmp["IcmpOutEchoReps"] == 1
    assert (replay.received, replay.bytes, replay.lost) == (1, 14 + 20 + 8 + 4, 0)
    assert replay.first_id == replay.last_id > 0


def test_another_machines_mac_is_dropped_and_auto_makes_it_ours(world: World) -> None:
    file = capture([(0, echo(dst=PEER))])
    plan = plan_frames(file, Options(), world.eth0)
    assert plan.for_others == 1
    world.receive(world.eth0, plan.frames)
    assert world.net.snmp["IcmpInEchos"] == 0
    for word in ("auto", "02:00:00:00:00:05"):
        plan = plan_frames(file, Options(dst_mac=word), world.eth0)
        assert plan.for_others == 0
        world.receive(world.eth0, plan.frames)
    assert world.net.snmp["IcmpInEchos"] == 2
    group = capture([(0, echo(dst=0xFFFFFFFFFFFF))])
    assert plan_frames(group, Options(dst_mac="auto"), world.eth0).frames[0][1][:6] == b"\xff" * 6


def test_directions_and_interfaces_of_a_pcapng_file(world: World) -> None:
    """What was sent where it was captured is not received here, unless asked for; several interfaces must be told apart."""
    assert plan_frames(capture([(0, echo())], direction=DIR_IN), Options(), world.eth0).outgoing == 0
    sent = capture([(0, echo())], direction=DIR_OUT)
    with pytest.raises(UsageError, match="has nothing to receive") as caught:
        plan_frames(sent, Options(), world.eth0)
    assert "--outgoing" in str(caught.value.try_)
    assert len(plan_frames(sent, Options(outgoing=True), world.eth0).frames) == 1
    out = BytesIO()
    writer = PcapngWriter(out, ["a", "b"])
    writer.write(0, 0, echo())
    writer.write(1, 0, echo(seq=2))
    with pytest.raises(UsageError, match="several interfaces"):
        plan_frames(out.getvalue(), Options(), world.eth0)
    assert plan_frames(out.getvalue(), Options(interface="b"), world.eth0).frames == [(0, echo(seq=2))]
    with pytest.raises(UsageError, match="no packets of an interface c"):
        plan_frames(out.getvalue(), Options(interface="c"), world.eth0)


def test_raw_ip_gets_a_header_and_other_link_types_an_error(world: World) -> None:
    raw = capture([(0, echo()[14:])], (Interface("tun0", 101),))
    world.receive(world.eth0, plan_frames(raw, Options(), world.eth0).frames)
    assert world.net.snmp["IcmpInEchos"] == 1
    with pytest.raises(UsageError, match=r"link type 113 \(LINUX_SLL\)"):
        plan_frames(capture([(0, echo())], (Interface("any", 113),)), Options(), world.eth0)


def test_classic_pcap_too(world: World) -> None:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<IIII", 1, 500, len(echo()), len(echo()) + 9) + echo()
    plan = plan_frames(head + record, Options(), world.eth0)
    assert plan.frames == [(0, echo())] and plan.cut == 1


@pytest.mark.parametrize("data, why", [
    (b"", "starts with nothing"), (b"GIF89a..", "neither pcapng nor pcap"), (capture([(0, echo())])[:-5], "the file ends"),
    (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"abc", "inside a packet header"),
])
def test_bad_files_say_why(world: World, data: bytes, why: str) -> None:
    with pytest.raises(UsageError, match="cannot be read as a capture") as caught:
        plan_frames(data, Options(), world.eth0, "x.pcap")
    assert why in caught.value.why and caught.value.what.startswith("x.pcap ")


@pytest.mark.parametrize("options", [Options(speed=0), Options(speed=-1), Options(speed=float("nan")), Options(dst_mac="x")])
def test_bad_options_say_why(world: World, options: Options) -> None:
    with pytest.raises(UsageError, match="--speed|--dst-mac"):
        plan_frames(capture([(0, echo())]), options, world.eth0)


def test_broken_headers_count_where_linux_counts_them(world: World) -> None:
    """ip_rcv_core(): IpInHdrErrors; a bad UDP checksum: UdpInCsumErrors, unless the file's sender left it to its card."""
    broken = bytearray(echo())
    broken[14] = 0x41
    world.receive(world.eth0, [(0, bytes(broken))])
    assert world.net.snmp["IpInReceives"] == 1 and world.net.snmp["IpInHdrErrors"] == 1
    udp = bytearray(frame_to_bytes(EthHdr(ME, PEER, 0x0800), IpHdr(1 << 24 | 9, ip4("10.48.1.5"), 17), UdpHdr(9, 99), None, b"x"))
    udp[40] ^= 0xFF
    assert world.receive(world.eth0, [(0, bytes(udp))]).bad_checksums == 1
    assert (world.net.snmp["UdpInCsumErrors"], world.net.snmp["UdpNoPorts"]) == (1, 0)
    world.receive(world.eth0, [(0, bytes(udp))], fix=True)
    assert (world.net.snmp["UdpInCsumErrors"], world.net.snmp["UdpNoPorts"]) == (1, 1)


def test_a_device_that_goes_loses_the_rest(world: World) -> None:
    from kubenet.kernel.dev.device import unregister_netdevice

    replay = FrameReplay(world.eth0, [(0, echo()), (SEC, echo())])
    replay.start()
    world.loop.run(until=MSEC)
    unregister_netdevice(world.eth0)
    world.loop.run(until=2 * SEC)
    assert replay.done and (replay.received, replay.lost) == (1, 1)


def test_the_journals_form_is_lossless() -> None:
    frames = [(0, b""), (5, bytes(range(256)))]
    assert from_journal(to_journal(frames)) == frames


def test_a_clusters_pod_receives_a_recorded_syn() -> None:
    """Through the cluster's own door; NotFoundError names the devices there are."""
    with Cluster.from_manifests("manifests/pods") as c:
        pod = c.container("web-0")
        syn = frame_to_bytes(EthHdr(pod.net.devs["eth0"].addr, PEER, 0x0800), IpHdr(ip4("10.48.1.5"), ip4("10.48.2.7"), 6),
                             TcpHdr(4000, 8080, 1, 0, 2, 1000), None, b"")
        before = pod.net.snmp["TcpInSegs"], pod.net.snmp["TcpOutSegs"]
        replay = c.replay_frames("web-0", "eth0", [(MSEC, syn)])
        c.run_until(lambda: replay.done)
        assert replay.json()["frames"] == 1
        assert (pod.net.snmp["TcpInSegs"], pod.net.snmp["TcpOutSegs"]) == (before[0] + 1, before[1] + 1)  # a SYN, a SYN-ACK
        with pytest.raises(NotFoundError, match="has no device eth9"):
            c.replay_frames("web-0", "eth9", [(0, syn)])


# ---- robustness: any bytes


def mutated() -> st.SearchStrategy[bytes]:
    """Real frames with bytes changed, cut or added."""
    syn = frame_to_bytes(EthHdr(ME, PEER, 0x0800), IpHdr(ip4("10.48.1.9"), ip4("10.48.2.9"), 6), TcpHdr(1, 80, 1, 0, 2, 9), None, b"")
    inner = frame_to_bytes(EthHdr(ME, PEER, 0x0800), IpHdr(1, 2, 17), UdpHdr(1, 2), None, b"x")
    tunnel = frame_to_bytes(EthHdr(ME, PEER, 0x0800), IpHdr(ip4("10.48.1.9"), ip4("10.48.1.5"), 17), UdpHdr(5, 8472), None,
                            build_vxlan(VxlanHdr(1)) + inner)
    error = frame_to_bytes(EthHdr(ME, PEER, 0x0800), IpHdr(ip4("10.48.1.9"), ip4("10.48.1.5"), 1), IcmpHdr(3, 4, 1400), None, syn[14:])
    arp = bytes.fromhex("ffffffffffff020000000009080600010800060400010200000000090a3001090000000000000a300105")
    six = bytes.fromhex("02000000000502000000000986dd60000000000806400000000000000000000000000000000100000000000000000000000000000002") + syn[34:]
    vlan = bytes.fromhex("02000000000502000000000981000005") + syn[12:]

    def change(case: tuple[bytes, list[tuple[int, int]], int, bytes]) -> bytes:
        data, edits, cut, tail = case
        out = bytearray(data)
        for at, value in edits:
            out[at % len(out)] = value
        return bytes(out[: len(out) - cut % len(out)]) + tail

    return st.tuples(st.sampled_from([echo(), syn, tunnel, error, arp, six, vlan]),
                     st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.sampled_from([0, 0, 0, 1, 7, 30]),
                     st.binary(max_size=8)).map(change)


WORLD: list[World] = []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.one_of(mutated(), st.binary(max_size=80)), max_size=4), st.sampled_from(["eth0", "veth1", "cni0", "flannel.1", "lo"]))
def test_no_frame_brings_the_stack_down(frames: list[bytes], name: str) -> None:
    if not WORLD:
        WORLD.append(World())
    world = WORLD[0]
    net: NetNamespace = world.net
    try:
        plan = plan_frames(capture([(0, data) for data in frames]), Options(dst_mac="auto", asap=True), net.devs[name])
    except UsageError:
        return
    world.receive(net.devs[name], plan.frames)
    world.receive(net.devs[name], plan.frames, fix=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(0, 60))
def test_no_file_does_more_than_say_why(noise: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    if not WORLD:
        WORLD.append(World())
    dev = WORLD[0].eth0
    good = bytearray(capture([(1, echo()), (2, echo())]))
    for at, value in edits:
        good[at % len(good)] = value
    for data in (noise, bytes(good[: len(good) - cut]), bytes(good) + noise):
        try:
            plan_frames(data, Options(), dev)
        except UsageError as error:
            assert error.what
