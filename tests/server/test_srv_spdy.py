"""SPDY/3.1 frames: the dictionary by its published checksum, and what a client's bytes mean, however they are cut."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.server.spdy import DICTIONARY, Data, Open, Ping, Reset, Spdy, data_frame, ping_frame, reset_frame


class Client:
    """The peer's compressor, which lives as long as its connection."""

    def __init__(self) -> None:
        self.deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 9, 0, DICTIONARY)

    def block(self, headers: dict[str, str]) -> bytes:
        text = struct.pack("!I", len(headers))
        for pair in headers.items():
            for word in pair:
                text += struct.pack("!I", len(word)) + word.encode()
        return self.deflate.compress(text) + self.deflate.flush(zlib.Z_SYNC_FLUSH)

    def syn(self, stream: int, headers: dict[str, str], flags: int = 0) -> bytes:
        body = struct.pack("!IIH", stream, 0, 0) + self.block(headers)
        return struct.pack("!HHI", 0x8003, 1, flags << 24 | len(body)) + body

    def headers(self, stream: int, headers: dict[str, str]) -> bytes:
        body = struct.pack("!I", stream) + self.block(headers)
        return struct.pack("!HHI", 0x8003, 8, len(body)) + body


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_the_dictionary_is_the_drafts() -> None:
    """zlib names a preset dictionary by its Adler-32: 0xE3C6A7C2 for SPDY/3."""
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(size=st.integers(1, 200))
def test_frames_come_whole_from_any_pieces(size: int) -> None:
    client, server = Client(), Spdy()
    error, data = {"streamtype": "error", "port": "80", "requestid": "0"}, {"streamtype": "data", "port": "80", "requestid": "0"}
    wire = (client.syn(1, error, 1) + client.headers(1, {"x": "y"}) + client.syn(3, data) + data_frame(3, b"GET /") + ping_frame(7)
            + struct.pack("!HHI", 0x8003, 4, 4) + bytes(4) + data_frame(3, b"", fin=True) + reset_frame(3))
    found = [frame for piece in pieces(wire, size) for frame in server.feed(piece)]
    assert found == [Open(1, error, True), Open(3, data, False), Data(3, b"GET /", False), Ping(7), Data(3, b"", True), Reset(3)]


def test_replies_are_read_by_the_other_side() -> None:
    """Two replies share one zlib stream, so the second is readable only after the first."""
    server, inflate = Spdy(), zlib.decompressobj(zdict=DICTIONARY)
    for stream in (1, 3):
        frame = server.reply(stream)
        assert frame[:4] == bytes([0x80, 3, 0, 2]) and struct.unpack("!II", frame[4:12]) == (len(frame) - 8, stream)
        assert inflate.decompress(frame[12:]) == bytes(4)


@pytest.mark.parametrize("wire", [
    struct.pack("!HHI", 0x8002, 1, 0),
    struct.pack("!HHI", 0x8003, 1, 12) + bytes(12),
    struct.pack("!HHI", 0x8003, 6, 0),
])
def test_nonsense_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError):
        Spdy().feed(wire)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(wire: bytes) -> None:
    """Frames or ValueError, nothing else."""
    try:
        Spdy().feed(wire)
    except ValueError:
        pass
