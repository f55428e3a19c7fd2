"""Our lines are tcpdump's lines, for every packet of the cast and every style."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_cast import (
    ARP_ALL,
    CLIENT,
    EPOCH,
    ETH4,
    MAC_CLIENT,
    RECORDING,
    STAMPS,
    STEP,
    STYLES,
    WEB,
    all_frames,
    arp_frames,
    real_tcpdump,
    tcp_frame,
    v4,
    write_capture,
)  # fmt: skip

from kubenet.wire.errors import WireError
from kubenet.wire.packet import bytes_to_frame, frame_parts
from kubenet.wire.pretty import Cooked, Printer, tcpdump_line
from kubenet.wire.udp import UdpHdr

HAVE_TCPDUMP = shutil.which("tcpdump", path="/usr/bin:/usr/sbin:/sbin:/bin:/usr/local/sbin")


def printer(mode: str) -> Printer:
    words = mode.split()
    return Printer(
        verbose=max((word.count("v") for word in words), default=0),
        ether="-e" in words,
        absolute_seq="-S" in words,
        quiet="-q" in words,
        tstamp=next((word for word in words if word.startswith("-t")), ""),
        nano="--nano" in words,
        dump=next((word for word in words if word[:2] in ("-x", "-X", "-A")), ""),
    )


def our_lines(mode: str, frames: list[Any]) -> list[str]:
    style = printer(mode)
    lines = []
    for i, frame in enumerate(frames):
        lines += tcpdump_line(style, EPOCH + i * STEP, *frame).split("\n")
    return lines


@pytest.mark.parametrize("mode", STYLES)
def test_lines_equal_the_recording_of_tcpdump(mode):
    assert our_lines(mode, all_frames()) == json.loads(RECORDING.read_text())[mode]


@pytest.mark.parametrize("mode", STAMPS)
def test_time_stamps_equal_the_recording_of_tcpdump(mode):
    assert our_lines(mode, arp_frames()) == json.loads(RECORDING.read_text())[mode]


@pytest.mark.skipif(not HAVE_TCPDUMP, reason="tcpdump is not installed; the recording is compared all the same")
@pytest.mark.parametrize("mode", ["", "-e", "-S", "-v", "-vv", "-vvv", "-tttt", "-x", "-X", "-A", "-xx", "-XX -e", "-AA"])
def test_lines_equal_tcpdump_reading_our_file(mode, tmp_path):
    """Our writer's file, tcpdump's reader: also a test of pcapng."""
    path = tmp_path / "cast.pcapng"
    write_capture(path, all_frames())
    assert our_lines(mode, all_frames()) == real_tcpdump(path, mode)


def test_a_handshake_in_default_style():
    """The lines everybody knows; tcpdump(1), TCP Packets."""
    syn, synack, ack = (tcp_frame(2, 1000, 0), tcp_frame(18, 5000, 1001, back=True), tcp_frame(16, 1001, 5001))
    assert our_lines("", [syn, synack, ack]) == [
        "00:00:00.000000 IP 10.48.1.5.40000 > 10.48.2.7.8080: Flags [S], seq 1000, win 502, length 0",
        "00:00:01.001001 IP 10.48.2.7.8080 > 10.48.1.5.40000: Flags [S.], seq 5000, ack 1001, win 502, length 0",
        "00:00:02.002002 IP 10.48.1.5.40000 > 10.48.2.7.8080: Flags [.], ack 1, win 502, length 0",
    ]


@pytest.mark.parametrize(
    "mode, pkt_type, line",
    [
        ("-t", 0, "eth0  In  IP 10.48.1.5.1 > 10.48.2.7.2: UDP, length 2"),
        ("-t", 1, "eth0  B   IP 10.48.1.5.1 > 10.48.2.7.2: UDP, length 2"),
        ("-t", 2, "eth0  M   IP 10.48.1.5.1 > 10.48.2.7.2: UDP, length 2"),
        ("-t", 3, "eth0  P   IP 10.48.1.5.1 > 10.48.2.7.2: UDP, length 2"),
        ("-t", 4, "eth0  Out IP 10.48.1.5.1 > 10.48.2.7.2: UDP, length 2"),
        (
            "-t -e",
            0,
            "eth0  In  ifindex 4 02:00:0a:30:01:05 ethertype IPv4 (0x0800), length 50: 10.48.1.5.1 > 10.48.2.7.2: UDP, length 2",
        ),
    ],
)
def test_any_device_shows_name_and_direction(mode, pkt_type, line):
    """Recorded from tcpdump 4.99.3 reading a LINKTYPE_LINUX_SLL2 file."""
    cooked = Cooked("eth0", 4, pkt_type)
    assert tcpdump_line(printer(mode), 0, ETH4, v4(17), UdpHdr(1, 2), None, b"hi", cooked=cooked) == line


def test_any_device_shows_arp():
    (frame, *_) = arp_frames()
    assert frame[0] is ARP_ALL and frame[1].sha == MAC_CLIENT
    line = tcpdump_line(printer("-t"), 0, *frame, cooked=Cooked("lo", 1, 1))
    assert line == "lo    B   ARP, Request who-has 10.48.1.1 tell 10.48.1.5, length 28"


def test_time_going_back_is_negative():
    """-ttt between two packets out of order; tcpdump: ts_print()."""
    style = printer("-ttt")
    frame = tcp_frame(16, 1, 1)
    tcpdump_line(style, 2_000_000_000, *frame)
    assert tcpdump_line(style, 500_000_000, *frame).startswith("-00:00:01.500000 IP ")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(all_frames()), st.data())
def test_any_frame_that_parses_can_be_printed(frame, data):
    """Flipped bytes either do not parse, or print without an exception in every style."""
    from kubenet.wire.packet import frame_to_bytes

    raw = bytearray(frame_to_bytes(*frame))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = bytes_to_frame(bytes(raw))
    except WireError:
        return
    for mode in ("-vvv -e", "-q", ""):
        assert tcpdump_line(printer(mode), 0, *frame_parts(parsed), not parsed.csum_ok)


def test_the_cast_uses_the_documented_addresses():
    assert (CLIENT, WEB) == (0x0A300105, 0x0A300207)
