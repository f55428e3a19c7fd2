"""pcapng by our writer, dpkt's reader and ours; classic pcap by dpkt's writer; damaged files."""

from __future__ import annotations

import io
import struct

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.wire.errors import WireError
from kubenet.wire.pcap import DIR_IN, DIR_OUT, LINKTYPE_RAW, Interface, PcapngWriter, read_pcapng

EPOCH = 1_767_225_600_000_000_000
PACKETS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2**62), st.binary(max_size=90), st.text(max_size=20), st.integers(0, 2)),
    max_size=6,
)


TWO = ("web-0:eth0", Interface("tun0", LINKTYPE_RAW))


def written(packets, interfaces=TWO) -> bytes:
    file = io.BytesIO()
    writer = PcapngWriter(file, list(interfaces))
    for packet in packets:
        writer.write(*packet)
    writer.flush()
    return file.getvalue()


@given(PACKETS)
def test_our_reader_reads_what_was_written(packets):
    got = list(read_pcapng(io.BytesIO(written(packets))))
    assert [(p.if_id, p.t_ns, p.data, p.comment, p.direction) for p in got] == packets
    assert all(p.orig_len == len(p.data) for p in got)
    names = {0: ("web-0:eth0", 1), 1: ("tun0", 101)}
    assert all((p.interface.name, p.interface.linktype) == names[p.if_id] for p in got)


def test_dpkt_reads_what_was_written():
    raw = written([(0, EPOCH + 1_500_000_000, b"\1" * 60, "after DNAT"), (0, EPOCH + 2_000_000_001, b"\2" * 61)], ["eth0"])
    reader = dpkt.pcapng.Reader(io.BytesIO(raw))
    assert reader.datalink() == 1
    packets = list(reader)
    assert [data for _, data in packets] == [b"\1" * 60, b"\2" * 61]
    assert float(packets[0][0]) == EPOCH / 1e9 + 1.5


def test_the_blocks_are_those_of_the_draft():
    """draft-ietf-opsawg-pcapng 4.1-4.3: types, byte-order magic, version 1.0, equal lengths at both ends."""
    raw = written([(0, 5, b"abc", "hi", DIR_OUT)], ["eth0"])
    assert raw[:4] == b"\x0a\x0d\x0d\x0a"
    assert struct.unpack_from("<IHHq", raw, 8) == (0x1A2B3C4D, 1, 0, -1)
    kinds, at = [], 0
    while at < len(raw):
        kind, size = struct.unpack_from("<II", raw, at)
        assert struct.unpack_from("<I", raw, at + size - 4) == (size,)
        kinds.append(kind)
        at += size
    assert kinds == [0x0A0D0D0A, 1, 6]
    assert raw[-12:-4] == struct.pack("<I", DIR_OUT) + bytes(4)


def test_snaplen_cuts_and_keeps_the_length():
    raw = written([(0, 1, b"x" * 100), (0, 1, b"y" * 4, "", DIR_IN, 1500)], [Interface("eth0", snaplen=64)])
    first, second = read_pcapng(io.BytesIO(raw))
    assert (len(first.data), first.orig_len) == (64, 100)
    assert (len(second.data), second.orig_len, second.direction) == (4, 1500, DIR_IN)


def test_a_device_may_join_later():
    file = io.BytesIO()
    writer = PcapngWriter(file, ["a"])
    writer.write(0, 1, b"one")
    assert writer.add_interface("b") == 1
    writer.write(1, 2, b"two")
    assert [(p.interface.name, p.data) for p in read_pcapng(io.BytesIO(file.getvalue()))] == [
        ("a", b"one"),
        ("b", b"two"),
    ]


def test_two_sections_one_after_the_other():
    """A section ends where the next header begins; interface numbers start anew (draft 4.1)."""
    raw = written([(0, 1, b"one")], ["a"]) + written([(0, 2, b"two")], ["b"])
    assert [(p.interface.name, p.data) for p in read_pcapng(io.BytesIO(raw))] == [("a", b"one"), ("b", b"two")]


def test_big_endian_microseconds_and_unknown_blocks():
    """A file of another machine: no if_tsresol means microseconds; block 0x0bad is to be skipped (draft 3.1)."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) & 3)
        return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)

    raw = block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    raw += block(1, struct.pack(">HHI", 1, 0, 0) + struct.pack(">HHqI", 14, 8, 100, 0))  # if_tsoffset 100 s
    raw += block(0x0BAD, b"whatever")
    raw += block(6, struct.pack(">IIIII", 0, 0, 7, 3, 3) + b"abc\0")
    raw += block(3, struct.pack(">I", 5) + b"hello")  # Simple Packet
    first, second = read_pcapng(io.BytesIO(raw))
    assert (first.t_ns, first.data) == (100_000_007_000, b"abc")
    assert (second.t_ns, second.data) == (0, b"hello")


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_classic_pcap(order, nano):
    """pcap-savefile(5): magic a1b2c3d4 counts microseconds, a1b23c4d nanoseconds."""
    raw = struct.pack(order + "IHHIIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    raw += struct.pack(order + "IIII", 10, 500, 3, 60) + b"abc"
    (packet,) = read_pcapng(io.BytesIO(raw))
    assert packet.t_ns == 10_000_000_000 + (500 if nano else 500_000)
    assert (packet.data, packet.orig_len, packet.interface.linktype) == (b"abc", 60, 1)


def test_classic_pcap_by_dpkt():
    file = io.BytesIO()
    dpkt.pcap.Writer(file, linktype=101).writepkt(b"abcd", ts=12.25)
    (packet,) = read_pcapng(io.BytesIO(file.getvalue()))
    assert (packet.t_ns, packet.data, packet.interface.linktype) == (12_250_000_000, b"abcd", 101)


GOOD = written([(0, EPOCH, b"abcdef", "note", 1), (1, EPOCH, b"xyz")])


def test_a_file_cut_anywhere_yields_whole_packets_then_an_error():
    whole = list(read_pcapng(io.BytesIO(GOOD)))
    for size in range(len(GOOD)):
        got = []
        try:
            for packet in read_pcapng(io.BytesIO(GOOD[:size])):
                got.append(packet)
        except WireError:
            pass
        assert got == whole[: len(got)]


@settings(max_examples=400)
@given(st.data())
def test_flipped_bytes_raise_only_wire_error(data):
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(read_pcapng(io.BytesIO(bytes(raw))))
    except WireError:
        pass


@settings(max_examples=300)
@given(st.sampled_from([b"", GOOD[:28], b"\xd4\xc3\xb2\xa1" + bytes(20)]), st.binary(max_size=80))
def test_random_bytes_raise_only_wire_error(head, data):
    try:
        list(read_pcapng(io.BytesIO(head + data)))
    except WireError:
        pass
