"""Each header: parse(build(h)) == h, what dpkt reads from our bytes, and bytes of strangers."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.wire.arp import ArpHdr, build_arp, parse_arp
from kubenet.wire.checksum import csum, pseudo_header4
from kubenet.wire.errors import WireError
from kubenet.wire.ethernet import EthHdr, build_eth, parse_eth
from kubenet.wire.icmp import IcmpHdr, Quote, build_icmp, parse_icmp
from kubenet.wire.ipv4 import IP_DF, IP_MF, IpHdr, build_ipv4, ip_hdrlen, ip_is_fragment, ipv4_tot_len, parse_ipv4
from kubenet.wire.ipv6 import Ipv6Hdr, build_ipv6, ipv6_payload_len, parse_ipv6
from kubenet.wire.packet import parse_quote
from kubenet.wire.sll2 import build_sll2, parse_sll2
from kubenet.wire.tcp import NO_OPTIONS, TcpHdr, TcpOptions, build_tcp, parse_tcp, tcp_options_len
from kubenet.wire.udp import UdpHdr, build_udp, parse_udp, udp_csum_ok, udp_len
from kubenet.wire.vxlan import VxlanHdr, build_vxlan, parse_vxlan

U8, U16, U32 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
U48, U128 = st.integers(0, 2**48 - 1), st.integers(0, 2**128 - 1)

ETHS = st.builds(EthHdr, U48, U48, U16)
ARPS = st.builds(ArpHdr, U16, U48, U32, U48, U32)
IPS = st.builds(
    IpHdr,
    U32,
    U32,
    U8,
    U16,
    U16,
    U8,
    U8,
    st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
)
IP6S = st.builds(Ipv6Hdr, U128, U128, U8, U8, U8, st.integers(0, 2**20 - 1))
ICMPS = st.builds(IcmpHdr, U8, U8, U32)
UDPS = st.builds(UdpHdr, U16, U16)
SACKS = st.lists(st.tuples(U32, U32), max_size=3).map(tuple)


@st.composite
def tcp_options(draw: st.DrawFn) -> TcpOptions:
    """Options that fit into 40 bytes."""
    has_ts = draw(st.booleans())
    opt = TcpOptions(
        draw(U16),
        draw(st.integers(-1, 255)),
        draw(st.booleans()),
        has_ts,
        draw(U32) if has_ts else 0,
        draw(U32) if has_ts else 0,
        draw(SACKS),
        draw(st.one_of(st.none(), st.binary(max_size=16))),
        draw(st.sampled_from([b"", b"\xfd\x04ab", b"\x13\x12" + b"k" * 16, b"\xac\x0b123456789"])),
    )
    while tcp_options_len(opt) > 40:
        if opt.other:
            opt.other = b""
        elif opt.fastopen is not None:
            opt.fastopen = None
        else:
            opt.sacks = opt.sacks[:-1]
    return opt


TCPS = st.builds(TcpHdr, U16, U16, U32, U32, st.integers(0, 511), U16, st.one_of(st.just(NO_OPTIONS), tcp_options()), U16)


@given(ETHS)
def test_ethernet(eth):
    raw = build_eth(eth)
    assert parse_eth(raw + b"payload") == eth == eth.copy()
    theirs = struct.unpack("!6s6sH", raw)
    assert theirs == (eth.dst.to_bytes(6, "big"), eth.src.to_bytes(6, "big"), eth.proto)


@given(ARPS)
def test_arp(arp):
    raw = build_arp(arp)
    assert parse_arp(raw + bytes(18)) == arp == arp.copy()
    theirs = dpkt.arp.ARP(raw)
    assert (theirs.hrd, theirs.pro, theirs.hln, theirs.pln, theirs.op) == (1, 0x0800, 6, 4, arp.op)
    assert (theirs.sha, theirs.tha) == (arp.sha.to_bytes(6, "big"), arp.tha.to_bytes(6, "big"))
    assert (theirs.spa, theirs.tpa) == (arp.spa.to_bytes(4, "big"), arp.tpa.to_bytes(4, "big"))


@given(IPS, st.binary(max_size=50))
def test_ipv4(ip, payload):
    raw = build_ipv4(ip, len(payload))
    assert parse_ipv4(raw + payload) == ip == ip.copy()
    assert ipv4_tot_len(raw) == len(raw + payload) and ip_hdrlen(ip) == len(raw)
    assert csum(raw) == 0
    packed = raw[0], raw[1], raw[8], raw[9]
    assert packed == (0x40 | len(raw) // 4, ip.tos, ip.ttl, ip.proto)


@given(IPS)
def test_ipv4_as_dpkt_reads_it(ip):
    ip.proto, ip.frag = 253, ip.frag & 0x4000
    theirs = dpkt.ip.IP(build_ipv4(ip, 5) + b"hello")
    assert (theirs.v, theirs.hl * 4, theirs.tos, theirs.len) == (4, ip_hdrlen(ip), ip.tos, ip_hdrlen(ip) + 5)
    assert (theirs.id, theirs.ttl, theirs.p, bool(theirs.df)) == (ip.id, ip.ttl, 253, bool(ip.frag & IP_DF))
    assert (theirs.src, theirs.dst) == (ip.saddr.to_bytes(4, "big"), ip.daddr.to_bytes(4, "big"))
    assert (theirs.opts, theirs.data) == (ip.options, b"hello")


def test_ipv4_defaults_are_linux_s():
    """A fresh header: DF, TTL 64 (net.ipv4.ip_default_ttl), no options."""
    ip = IpHdr(1, 2, 6)
    assert (ip.frag, ip.ttl, ip.tos, ip.id, ip.options) == (0x4000, 64, 0, 0, b"")


def test_fragments_are_recognised():
    """Linux: ip_is_fragment(): MF or an offset; DF alone is none."""
    assert [ip_is_fragment(IpHdr(1, 2, 6, frag=f)) for f in (0, IP_DF, IP_MF, 185, IP_MF | 185)] == [0, 0, 1, 1, 1]


@given(IP6S, st.integers(0, 65535))
def test_ipv6(ip, size):
    raw = build_ipv6(ip, size)
    assert parse_ipv6(raw) == ip == ip.copy()
    assert ipv6_payload_len(raw) == size
    first, length, nexthdr, hops = struct.unpack_from("!IHBB", raw)
    assert (first, length, nexthdr, hops) == (6 << 28 | ip.tclass << 20 | ip.flow, size, ip.nexthdr, ip.hop_limit)
    assert raw[8:] == ip.saddr.to_bytes(16, "big") + ip.daddr.to_bytes(16, "big")


@given(ICMPS, st.binary(max_size=60))
def test_icmp(icmp, payload):
    raw = build_icmp(icmp, payload)
    assert parse_icmp(raw) == icmp == icmp.copy()
    assert csum(raw + payload) == 0
    assert (raw[0], raw[1], raw[4:]) == (icmp.type, icmp.code, icmp.rest.to_bytes(4, "big"))


def test_icmp_echo_as_dpkt_reads_it():
    theirs = dpkt.icmp.ICMP(build_icmp(IcmpHdr(8, 0, 5 << 16 | 7), b"abc") + b"abc")
    assert (theirs.type, theirs.code, theirs.data.id, theirs.data.seq, theirs.data.data) == (8, 0, 5, 7, b"abc")


@given(UDPS, U32, U32, st.binary(max_size=60))
def test_udp(udp, saddr, daddr, payload):
    pseudo = pseudo_header4(saddr, daddr, 17, 8 + len(payload))
    raw = build_udp(udp, payload, pseudo)
    assert parse_udp(raw) == udp == udp.copy()
    assert udp_len(raw) == 8 + len(payload)
    assert udp_csum_ok(raw + payload, pseudo)
    theirs = dpkt.udp.UDP(raw + payload)
    assert (theirs.sport, theirs.dport, theirs.ulen, theirs.data) == (udp.sport, udp.dport, 8 + len(payload), payload)
    assert theirs.sum != 0, 'RFC 768: "If the computed checksum is zero, it is transmitted as all ones"'


def test_udp_without_checksum():
    """RFC 768: "An all zero transmitted checksum value means that the transmitter generated no checksum"."""
    raw = build_udp(UdpHdr(1, 2), b"hello", 77, check=False)
    assert raw[6:] == b"\0\0" and udp_csum_ok(raw + b"hello", 12345)


def test_udp_checksum_of_zero_is_sent_as_ones():
    """Ports chosen so that the sum is 0xffff, and the complement 0."""
    raw = build_udp(UdpHdr(0xFFFF - 8 - 8 - 17, 0), b"", pseudo_header4(0, 0, 17, 8))
    assert raw[6:] == b"\xff\xff"


@given(TCPS, U32, U32, st.binary(max_size=60))
def test_tcp(tcp, saddr, daddr, payload):
    pseudo = pseudo_header4(saddr, daddr, 6, tcp.doff + len(payload))
    raw = build_tcp(tcp, payload, pseudo)
    assert len(raw) == tcp.doff
    assert parse_tcp(raw) == tcp == tcp.copy()
    assert csum(raw + payload, pseudo) == 0


@given(TCPS)
def test_tcp_as_dpkt_reads_it(tcp):
    theirs = dpkt.tcp.TCP(build_tcp(tcp, b"hello") + b"hello")
    assert (theirs.sport, theirs.dport, theirs.seq, theirs.ack) == (tcp.sport, tcp.dport, tcp.seq, tcp.ack_seq)
    assert (theirs.off * 4, theirs.win, theirs.urp) == (tcp.doff, tcp.window, tcp.urg_ptr)
    assert theirs.flags & 0xFF == tcp.flags & 0xFF
    assert theirs.data == b"hello"
    seen = dict(dpkt.tcp.parse_opts(theirs.opts)) if theirs.opts else {}
    opt = tcp.options
    assert seen.get(2) == (struct.pack("!H", opt.mss) if opt.mss else None)
    assert seen.get(3) == (bytes((opt.wscale,)) if opt.wscale >= 0 else None)
    assert (4 in seen) == opt.sack_perm
    assert seen.get(8) == (struct.pack("!II", opt.tsval, opt.tsecr) if opt.ts else None)
    assert seen.get(5) == (b"".join(struct.pack("!II", *block) for block in opt.sacks) or None)


@given(st.integers(0, 2**24 - 1))
def test_vxlan(vni):
    """RFC 7348 5: flags 0x08, 24 reserved bits, VNI, 8 reserved bits."""
    raw = build_vxlan(VxlanHdr(vni))
    assert raw == b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0"
    assert parse_vxlan(raw) == VxlanHdr(vni)


def test_sll2():
    """tcpdump.org LINKTYPE_LINUX_SLL2: protocol, reserved, ifindex, ARPHRD, packet type, address length, address."""
    raw = build_sll2(0x0800, 4, 4, 0x02000A300105)
    assert raw == bytes.fromhex("0800 0000 00000004 0001 04 06 02000a300105 0000".replace(" ", ""))
    assert parse_sll2(raw) == (0x0800, 4, 4, 0x02000A300105)


@pytest.mark.parametrize(
    "parse, good, broken",
    [
        (parse_eth, build_eth(EthHdr(1, 2, 3)), []),
        (parse_arp, build_arp(ArpHdr(1, 2, 3, 4, 5)), [(0, 2), (4, 8), (2, 9)]),
        (parse_ipv4, build_ipv4(IpHdr(1, 2, 6), 0), [(0, 0x65), (0, 0x44), (0, 0x46), (8, 63)]),
        (parse_ipv6, build_ipv6(Ipv6Hdr(1, 2, 6), 0), [(0, 0x45)]),
        (parse_icmp, build_icmp(IcmpHdr(8, 0), b""), []),
        (parse_udp, build_udp(UdpHdr(1, 2), b""), [(5, 7)]),
        (parse_tcp, build_tcp(TcpHdr(1, 2, 3, 4, 16, 5), b""), [(12, 0x40), (12, 0x60)]),
        (parse_vxlan, build_vxlan(VxlanHdr(1)), [(0, 0)]),
        (parse_sll2, build_sll2(0x0800, 1, 0, 1), []),
    ],
)
def test_cut_and_contradicting_headers_are_refused(parse, good, broken):
    """`broken`: (offset, byte) that make the header contradict itself."""
    parse(good)
    for size in range(len(good)):
        with pytest.raises(WireError):
            parse(good[:size])
    for offset, byte in broken:
        with pytest.raises(WireError):
            parse(good[:offset] + bytes((byte,)) + good[offset + 1 :])


@settings(max_examples=300)
@given(st.binary(max_size=100))
def test_random_bytes_raise_only_wire_error(data):
    for parse in (
        parse_eth, parse_arp, parse_ipv4, parse_ipv6, parse_icmp, parse_udp, parse_tcp, parse_vxlan, parse_sll2,
        parse_quote, lambda d: parse_quote(d, True), lambda d: parse_ipv4(b"E" + d, verify=False),
    ):  # fmt: skip
        try:
            parse(data)
        except WireError:
            pass


def test_copies_are_apart():
    """NAT edits a copy in place; the other holder's header must not move."""
    quote = Quote(IpHdr(1, 2, 17), UdpHdr(3, 4), b"x")
    other = quote.copy()
    other.ip.daddr, other.l4.dport = 9, 9
    assert (quote.ip.daddr, quote.l4.dport) == (2, 4)
    assert quote != other


def test_headers_are_no_keys():
    """A mutable record in a dict would be lost after the first edit."""
    with pytest.raises(TypeError):
        hash(IpHdr(1, 2, 6))


def test_headers_of_different_kinds_differ():
    assert UdpHdr(1, 2) != (1, 2)
    assert repr(UdpHdr(1, 2)) == "UdpHdr(sport=1, dport=2)"
