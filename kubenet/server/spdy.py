"""SPDY/3.1 frames, as far as `kubectl port-forward` uses them: the server's side of one connection.

    spdy = Spdy()
    for frame in spdy.feed(data): ...           Open, Data, Reset, Ping; other types are read and dropped
    send(spdy.reply(stream)); send(data_frame(stream, b"...", fin=True)); send(ping_frame(number))

    control  1|version:15  type:16  flags:8  length:24  body         data  0|stream:31  flags:8  length:24  body

Header blocks are one zlib stream for each direction of the connection, with a dictionary that both sides know, so every block must
be decompressed in order, also those nobody wants. Flow control is left out: the peer, moby/spdystream, has no windows either.

Source: SPDY Protocol - Draft 3.1, sections 2.2 and 2.6.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, HEADERS = 1, 2, 3, 6, 8
FIN = 1
VERSION = 3
MAX_FRAME = 1 << 24
PROTOCOL_ERROR = 1

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization "
    "cache-control connection content-base content-encoding content-language content-length content-location content-md5 "
    "content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after "
    "server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status"
).split() + ["200 OK"] + "version HTTP/1.1 url public set-cookie keep-alive origin".split()
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information"
    "204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(word)) + word.encode() for word in _WORDS) + _TAIL.encode()


class Open(NamedTuple):
    """SYN_STREAM: the peer opened a stream."""

    stream: int
    headers: dict[str, str]
    fin: bool


class Data(NamedTuple):
    """Bytes on a stream; `fin`: the last ones from this side."""

    stream: int
    data: bytes
    fin: bool


class Reset(NamedTuple):
    """RST_STREAM: the stream is gone."""

    stream: int


class Ping(NamedTuple):
    """PING, to be sent back."""

    number: int


Frame = Open | Data | Reset | Ping


def data_frame(stream: int, data: bytes, fin: bool = False) -> bytes:
    """Bytes on a stream."""
    return struct.pack("!II", stream, (FIN if fin else 0) << 24 | len(data)) + data


def _control(type_: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("!HHI", 0x8000 | VERSION, type_, flags << 24 | len(body)) + body


def reset_frame(stream: int, status: int = PROTOCOL_ERROR) -> bytes:
    """The stream is refused or given up."""
    return _control(RST_STREAM, struct.pack("!II", stream, status))


def ping_frame(number: int) -> bytes:
    """A ping, or the answer to one."""
    return _control(PING, struct.pack("!I", number))


class Spdy:
    """What a connection remembers: half a frame, and both compressors."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ValueError on what is no SPDY/3."""
        self._buffer += data
        out: list[Frame] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from("!II", self._buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                break
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            if not first >> 31:
                out.append(Data(first, body, bool(flags & FIN)))
                continue
            if first >> 16 & 0x7FFF != VERSION:
                raise ValueError(f"SPDY version {first >> 16 & 0x7FFF}")
            frame = self._read_control(first & 0xFFFF, flags, body)
            if frame is not None:
                out.append(frame)
        return out

    def _read_control(self, type_: int, flags: int, body: bytes) -> Frame | None:
        try:
            if type_ == SYN_STREAM:
                return Open(struct.unpack_from("!I", body)[0] & 0x7FFFFFFF, self._headers(body[10:]), bool(flags & FIN))
            if type_ in (HEADERS, SYN_REPLY):
                self._headers(body[4:])
            elif type_ == RST_STREAM:
                return Reset(struct.unpack_from("!I", body)[0] & 0x7FFFFFFF)
            elif type_ == PING:
                return Ping(struct.unpack_from("!I", body)[0])
        except (struct.error, zlib.error, IndexError) as error:
            raise ValueError(f"a SPDY frame of type {type_} does not parse: {error}") from None
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        """A header block: count, then name and value, each with its length."""
        text = self._inflate.decompress(block, MAX_FRAME)
        count, at = struct.unpack_from("!I", text)[0], 4
        words: list[str] = []
        for _ in range(2 * count):
            size = struct.unpack_from("!I", text, at)[0]
            words.append(text[at + 4 : at + 4 + size].decode("latin-1"))
            at += 4 + size
        return dict(zip(words[::2], words[1::2], strict=True))

    def reply(self, stream: int) -> bytes:
        """SYN_REPLY without headers: the stream is accepted."""
        block = self._deflate.compress(struct.pack("!I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(SYN_REPLY, struct.pack("!I", stream) + block)
