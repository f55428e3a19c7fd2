"""TCP options in Linux's order and with Linux's padding: net/ipv4/tcp_output.c tcp_options_write()."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.wire.tcp import (
    NO_OPTIONS,
    SYN,
    TcpHdr,
    TcpOptions,
    build_options,
    build_tcp,
    parse_options,
    parse_tcp,
    tcp_options_len,
)  # fmt: skip

MSS = "020405b4"
SACK_OK = "0402"
TS = "080a0000000100000002"
WSCALE = "03030a"
NOP = "01"


@pytest.mark.parametrize(
    "options, wire",
    [
        # SYN: mss, sackOK, TS, nop, wscale: sackOK is the padding of TS; 20 bytes, so a SYN is 74 bytes of frame
        (TcpOptions(1460, 10, True, True, 1, 2), MSS + SACK_OK + TS + NOP + WSCALE),
        # timestamps off
        (TcpOptions(1460, 10, True), MSS + NOP + NOP + SACK_OK + NOP + WSCALE),
        # SACK off
        (TcpOptions(1460, 10, False, True, 1, 2), MSS + NOP + NOP + TS + NOP + WSCALE),
        (TcpOptions(1460, 10), MSS + NOP + WSCALE),
        (TcpOptions(1460), MSS),
        # no window scaling from the peer: the SYN-ACK has none either
        (TcpOptions(1460, -1, True, True, 1, 2), MSS + SACK_OK + TS),
        (TcpOptions(1460, 0), MSS + NOP + "030300"),
        # established
        (TcpOptions(ts=True, tsval=1, tsecr=2), NOP + NOP + TS),
        (
            TcpOptions(ts=True, tsval=1, tsecr=2, sacks=((5, 6),)),
            NOP + NOP + TS + NOP + NOP + "050a" + "00000005" + "00000006",
        ),
        (TcpOptions(sacks=((5, 6), (7, 8))), NOP + NOP + "0512" + "00000005000000060000000700000008"),
        # fast open last, padded to 4 with nops; an empty cookie is a request
        (TcpOptions(1460, fastopen=b""), MSS + "2202" + NOP + NOP),
        (TcpOptions(1460, fastopen=b"12345678"), MSS + "220a" + "3132333435363738" + NOP + NOP),
        # MD5 before everything
        (TcpOptions(1460, other=b"\x13\x12" + b"k" * 16), NOP + NOP + "1312" + "6b" * 16 + MSS),
        (NO_OPTIONS, ""),
    ],
)
def test_order_and_padding(options, wire):
    raw = bytes.fromhex(wire)
    assert build_options(options) == raw
    assert parse_options(raw) == options
    assert tcp_options_len(options) == len(raw) and len(raw) % 4 == 0


def test_the_syn_of_a_linux_host_is_40_bytes():
    """Profile linux-6.18: 74 bytes of Ethernet frame = 14 + 20 + 40."""
    syn = TcpHdr(40000, 80, 1, 0, SYN, 64240, TcpOptions(1460, 10, True, True, 1, 0))
    assert syn.doff == 40 == len(build_tcp(syn, b""))


@pytest.mark.parametrize(
    "wire, options",
    [
        ("0101" + TS, TcpOptions(ts=True, tsval=1, tsecr=2)),  # tcp_fast_parse_options()
        (TS + "0000", TcpOptions(ts=True, tsval=1, tsecr=2)),  # other stacks pad behind
        (MSS + NOP + WSCALE + NOP + NOP + TS + SACK_OK + "0000", TcpOptions(1460, 10, True, True, 1, 2)),  # macOS
        (MSS + "00" + WSCALE, TcpOptions(1460)),  # nothing counts after end-of-list (RFC 9293 3.1)
        (MSS + "03", TcpOptions(1460)),  # cut in the kind
        (MSS + "0304", TcpOptions(1460)),  # longer than the header
        (MSS + "0301" + TS, TcpOptions(1460)),  # length below 2 ends the list: "silly options"
        ("0203aa" + MSS, TcpOptions(1460, other=b"\x02\x03\xaa")),  # a wrong length is no MSS
        ("0509" + "00" * 7 + MSS, TcpOptions(1460, other=b"\x05\x09" + b"\0" * 7)),  # SACK of 7 bytes
    ],
)
def test_reading_other_orders_and_malformed_lists(wire, options):
    """Linux: tcp_parse_options() never refuses a segment because of its options."""
    assert parse_options(bytes.fromhex(wire)) == options


def test_a_stranger_s_header_keeps_its_length():
    """doff is the wire's, also where our own padding would be longer or shorter: wire offsets stay what they are."""
    for wire in (MSS + NOP + WSCALE + NOP + NOP + TS + SACK_OK + "0000", TS + "050a" + "00000005" + "00000006"):
        raw = bytes.fromhex(wire)
        hdr = parse_tcp(build_tcp(TcpHdr(1, 2, 3, 4, SYN, 5), b"")[:12] + bytes(((20 + len(raw)) << 2,)) + bytes(7) + raw)
        assert hdr.doff == 20 + len(raw)
        again = build_tcp(hdr, b"")
        assert len(again) == hdr.doff and parse_tcp(again) == hdr


@given(st.binary(max_size=40))
def test_any_bytes_are_read_without_an_error(data):
    options = parse_options(data)
    assert tcp_options_len(options) >= 0
    tight = build_options(options, tight=True)
    assert len(tight) <= len(data) + 40


def test_no_options_is_one_object():
    """The common header carries no record of its own."""
    assert parse_options(b"") is NO_OPTIONS
    assert TcpHdr(1, 2, 3, 4, 16, 5).options is NO_OPTIONS
