"""Whole frames to bytes and back, with checksums that an independent reader finds right."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire_headers import ETHS, IP6S, IPS, TCPS, U32, UDPS
from wire_cast import CLIENT, ETH4, NODE1, NODE2, WEB, all_frames, v4, v6

from kubenet.wire.checksum import csum
from kubenet.wire.errors import WireError
from kubenet.wire.ethernet import ETH_HLEN, EthHdr
from kubenet.wire.icmp import IcmpHdr, Quote
from kubenet.wire.ipv4 import IP_DF, IP_MF, IpHdr
from kubenet.wire.ipv6 import Ipv6Hdr
from kubenet.wire.packet import (
    ParsedFrame,
    build_quote,
    bytes_to_frame,
    frame_len,
    frame_parts,
    frame_to_bytes,
    parse_quote,
    quote_len,
)  # fmt: skip
from kubenet.wire.tcp import ACK, SYN, TcpHdr, TcpOptions
from kubenet.wire.udp import UdpHdr
from kubenet.wire.vxlan import VxlanHdr, build_vxlan

PAYLOADS = st.binary(max_size=80)


@pytest.mark.parametrize("number", range(len(all_frames())))
def test_every_frame_of_the_cast_comes_back(number):
    """parse(build(frame)) == frame, and the arithmetic length is the real one."""
    eth, l3, l4, inner, payload, bad = all_frames()[number]
    raw = frame_to_bytes(eth, l3, l4, inner, payload, bad)
    assert len(raw) == frame_len(eth, l3, l4, inner, payload)
    assert bytes_to_frame(raw) == ParsedFrame(eth, l3, l4, inner, payload, not bad)


@given(ETHS, IPS, st.one_of(TCPS, UDPS), PAYLOADS)
def test_ipv4_frames_come_back(eth, ip, l4, payload):
    eth.proto, ip.frag = 0x0800, ip.frag & IP_DF
    ip.proto = 6 if isinstance(l4, TcpHdr) else 17
    if isinstance(l4, UdpHdr) and l4.dport in (8472, 4789):
        l4.dport = 1
    raw = frame_to_bytes(eth, ip, l4, None, payload)
    assert bytes_to_frame(raw) == ParsedFrame(eth, ip, l4, None, payload)
    assert bytes_to_frame(raw[ETH_HLEN:], link=False) == ParsedFrame(None, ip, l4, None, payload)


@given(ETHS, IP6S, st.one_of(TCPS, UDPS), PAYLOADS)
def test_ipv6_frames_come_back(eth, ip, l4, payload):
    eth.proto = 0x86DD
    ip.nexthdr = 6 if isinstance(l4, TcpHdr) else 17
    if isinstance(l4, UdpHdr) and l4.dport in (8472, 4789):
        l4.dport = 1
    raw = frame_to_bytes(eth, ip, l4, None, payload)
    assert bytes_to_frame(raw) == ParsedFrame(eth, ip, l4, None, payload)
    assert bytes_to_frame(raw[ETH_HLEN:], link=False).l3 == ip


@given(st.one_of(TCPS, UDPS), U32, U32, PAYLOADS)
def test_dpkt_computes_the_same_checksums(l4, saddr, daddr, payload):
    """dpkt fills in checksums that are 0 when it serialises; so zero ours and compare. (It drops the AE bit.)"""
    if isinstance(l4, TcpHdr):
        l4.flags &= 0xFF
    ip = IpHdr(saddr, daddr, 6 if isinstance(l4, TcpHdr) else 17)
    raw = frame_to_bytes(ETH4, ip, l4, None, payload)
    theirs = dpkt.ethernet.Ethernet(raw)
    assert isinstance(theirs.data.data, (dpkt.tcp.TCP, dpkt.udp.UDP))
    theirs.data.sum = theirs.data.data.sum = 0
    again = bytes(theirs)
    assert again == raw


def test_a_corrupted_packet_shows_outside():
    raw = frame_to_bytes(ETH4, v4(6), TcpHdr(1, 2, 3, 4, ACK, 5), None, b"data", bad_csum=True)
    good = frame_to_bytes(ETH4, v4(6), TcpHdr(1, 2, 3, 4, ACK, 5), None, b"data")
    assert [i for i in range(len(raw)) if raw[i] != good[i]] == [14 + 20 + 16]
    assert not bytes_to_frame(raw).csum_ok and bytes_to_frame(good).csum_ok


@pytest.mark.parametrize("at", range(34, 34 + 20 + 4))
def test_every_flipped_byte_of_a_segment_is_noticed(at):
    """RFC 9293 3.1: the checksum covers header, data and pseudo header."""
    raw = bytearray(frame_to_bytes(ETH4, v4(6), TcpHdr(1, 2, 3, 4, ACK, 5), None, b"data"))
    raw[at] ^= 0x40
    try:
        assert not bytes_to_frame(bytes(raw)).csum_ok
    except WireError:
        assert at == 34 + 12, "only the data offset can contradict the length"


def test_ethernet_padding_is_dropped():
    """A NIC pads to 60 bytes; the IP total length says where the packet ends. Linux: ip_rcv_core(), pskb_trim_rcsum."""
    raw = frame_to_bytes(ETH4, v4(17), UdpHdr(1, 2), None, b"hi")
    assert bytes_to_frame(raw + bytes(60 - len(raw))) == bytes_to_frame(raw)


def test_a_cut_frame_is_refused():
    raw = frame_to_bytes(ETH4, v4(17), UdpHdr(1, 2), None, b"hello")
    for size in range(len(raw)):
        with pytest.raises(WireError):
            bytes_to_frame(raw[:size])


def test_a_wrong_ip_header_checksum_is_refused():
    """RFC 1122 3.2.1.2: a host MUST silently discard it; who reads bytes decides what is silent."""
    raw = bytearray(frame_to_bytes(ETH4, v4(17), UdpHdr(1, 2), None, b"hello"))
    raw[14 + 8] -= 1
    with pytest.raises(WireError, match="checksum"):
        bytes_to_frame(bytes(raw))


def test_a_fragment_is_not_taken_apart():
    for frag in (IP_MF, 185, 185 | IP_MF):
        frame = bytes_to_frame(frame_to_bytes(ETH4, v4(17, frag=frag), None, None, b"x" * 24))
        assert (frame.l4, frame.payload) == (None, b"x" * 24)


def test_a_super_segment_has_no_total_length():
    """Linux writes 0 where 16 bits do not suffice (BIG TCP), and readers take what is there."""
    payload = b"x" * 65_520
    raw = frame_to_bytes(ETH4, v4(6), TcpHdr(1, 2, 3, 4, ACK, 5), None, payload)
    assert raw[16:18] == b"\0\0"
    assert bytes_to_frame(raw).payload == payload


def test_vxlan_encapsulates_a_whole_frame():
    """RFC 7348 5: outer Ethernet, IP, UDP, 8 bytes VXLAN, then the inner Ethernet frame: 50 bytes more."""
    inner = ParsedFrame(ETH4, v4(6), TcpHdr(40000, 80, 1, 0, SYN, 64240, TcpOptions(mss=1410)))
    bare = frame_to_bytes(*frame_parts(inner))
    outer = (EthHdr(1, 2, 0x0800), IpHdr(NODE1, NODE2, 17), UdpHdr(43000, 8472), inner, build_vxlan(VxlanHdr(1)))
    raw = frame_to_bytes(*outer)
    assert len(raw) == len(bare) + 50 == frame_len(*outer)
    assert raw.endswith(bytes.fromhex("0800000000000100") + bare)
    again = bytes_to_frame(raw)
    assert again == ParsedFrame(*outer) and again.csum_ok


class FakeSkb:
    """An skb calls its network header `ip`; the wire layer asks for nothing else."""

    def __init__(self, eth, ip, l4, inner, payload):
        self.eth, self.ip, self.l4, self.inner, self.payload = eth, ip, l4, inner, payload


def test_an_encapsulated_skb_is_as_good_as_a_parsed_frame():
    parsed = ParsedFrame(ETH4, v4(17), UdpHdr(1, 2), None, b"hello")
    skb = FakeSkb(ETH4, v4(17), UdpHdr(1, 2), None, memoryview(b"hello"))
    outer = (ETH4, IpHdr(NODE1, NODE2, 17), UdpHdr(43000, 8472))
    vxlan = build_vxlan(VxlanHdr(1))
    assert frame_to_bytes(*outer, skb, vxlan) == frame_to_bytes(*outer, parsed, vxlan)


def test_other_bytes_on_the_vxlan_port_stay_payload():
    for payload in (b"", b"hello", build_vxlan(VxlanHdr(1)) + b"no frame", bytes(60)):
        frame = bytes_to_frame(frame_to_bytes(ETH4, v4(17), UdpHdr(1, 8472), None, payload))
        assert (frame.inner, frame.payload) == (None, payload)


# -- quotes ----------------------------------------------------------------------------------------------------------


def test_an_icmp_error_quotes_the_packet_that_caused_it():
    """RFC 792: "The internet header plus the first 64 bits of the original datagram's data"; dpkt reads the same."""
    quote = Quote(v4(17, id=7), UdpHdr(40000, 5000), b"hello")
    raw = frame_to_bytes(ETH4, v4(1, True, frag=0), IcmpHdr(3, 4, 1450), quote, b"")
    original = frame_to_bytes(None, v4(17, id=7), UdpHdr(40000, 5000), None, b"hello")
    assert raw.endswith(original), "an uncut quote is the packet as it was, checksums included"
    theirs = dpkt.ethernet.Ethernet(raw).data.data
    assert (theirs.type, theirs.code, theirs.data.mtu) == (3, 4, 1450)
    assert bytes(theirs.data.data) == original


def test_a_cut_quote_keeps_the_original_lengths():
    ip = v4(17)
    raw = build_quote(Quote(ip, UdpHdr(1, 2), b"x" * 100, 1500))
    assert len(raw) == 20 + 8 + 100
    assert int.from_bytes(raw[2:4], "big") == 1500 and int.from_bytes(raw[24:26], "big") == 1480
    assert csum(raw[:20]) == 0
    assert parse_quote(raw) == Quote(ip, UdpHdr(1, 2), b"x" * 100, 1500)


def test_eight_bytes_of_tcp_are_enough_to_know_the_connection():
    """Routers that follow RFC 792 to the letter quote ports and sequence number, no more."""
    original = frame_to_bytes(None, v4(6), TcpHdr(40000, 80, 77, 5, ACK, 9), None, b"data")
    quote = parse_quote(original[:28])
    assert (quote.l4.sport, quote.l4.dport, quote.l4.seq, quote.l4.doff) == (40000, 80, 77, 8)
    assert build_quote(quote) == original[:28]
    assert quote_len(quote) == 28


@pytest.mark.parametrize("l4, proto", [(TcpHdr(1, 2, 3, 4, ACK, 5), 6), (UdpHdr(1, 2), 17), (IcmpHdr(8, 0, 9), 1)])
def test_quotes_cut_anywhere_come_back(l4, proto):
    original = frame_to_bytes(None, v4(proto), l4, None, b"payload")
    for size in range(20, len(original) + 1):
        quote = parse_quote(original[:size])
        assert quote_len(quote) == size
        assert len(build_quote(quote)) == size
        assert (quote.ip.saddr, quote.ip.daddr) == (CLIENT, WEB)


def test_icmpv6_quotes():
    """RFC 4443 3.2: packet too big quotes as much as fits into 1280 bytes; the checksum covers the pseudo header."""
    quote = Quote(v6(6), TcpHdr(1, 2, 3, 4, ACK, 5), b"x" * 100, 1500)
    raw = frame_to_bytes(EthHdr(1, 2, 0x86DD), v6(58, True), IcmpHdr(2, 0, 1280), quote, b"")
    frame = bytes_to_frame(raw)
    assert frame.inner == quote and frame.csum_ok
    theirs = dpkt.ethernet.Ethernet(raw).data
    theirs.data.sum = 0
    assert bytes(theirs)[40:] == raw[54:], "dpkt computes the same ICMPv6 checksum"


def test_an_error_that_quotes_nonsense_keeps_its_bytes():
    frame = bytes_to_frame(frame_to_bytes(ETH4, v4(1), IcmpHdr(3, 1, 0), None, b"nonsense"))
    assert (frame.inner, frame.payload) == (None, b"nonsense")


# -- strangers -------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=120), st.sampled_from([b"", b"\x08\x00", b"\x86\xdd", b"\x08\x06"]), st.booleans())
def test_random_bytes_raise_only_wire_error(data, ethertype, link):
    if ethertype:
        data = bytes(12) + ethertype + data
    try:
        frame = bytes_to_frame(data, link)
    except WireError:
        return
    assert frame_len(*frame_parts(frame)) <= len(data)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([frame_to_bytes(*frame) for frame in all_frames()]), st.data())
def test_flipped_bytes_raise_only_wire_error(raw, data):
    flipped = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 5))):
        flipped[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = bytes_to_frame(bytes(flipped[: data.draw(st.integers(0, len(raw)))]))
    except WireError:
        return
    again = frame_to_bytes(*frame_parts(frame))
    assert len(again) == frame_len(*frame_parts(frame))


def test_many_frames_in_frames_end():
    """VXLAN in VXLAN in ...: a crafted packet must not exhaust Python's stack; the fifth frame inside stays bytes."""
    raw = b""
    while len(raw) < 60_000:
        raw = frame_to_bytes(ETH4, v4(17), UdpHdr(1, 8472), None, build_vxlan(VxlanHdr(1)) + raw)
    frame, depth = bytes_to_frame(raw), 0
    assert frame_to_bytes(*frame_parts(frame)) == raw
    while frame.inner is not None:
        frame, depth = frame.inner, depth + 1
    assert depth == 4


def test_an_ipv6_packet_by_hand():
    """RFC 8200 3: version 6, class 0xb8, flow 0x12345, payload 8 + 2, UDP, hop limit 64."""
    raw = frame_to_bytes(None, Ipv6Hdr(1, 2, 17, 64, 0xB8, 0x12345), UdpHdr(1, 2), None, b"hi")
    assert raw[:8].hex() == "6b812345000a1140"
