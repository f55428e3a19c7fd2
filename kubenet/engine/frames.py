"""Frames between engine and front: a JSON header and raw bytes, both with their length in front.

    u32 total | u32 header length | header (JSON object) | body

Both ends know each other, so a frame that does not parse is a bug and ends the connection. MAX bounds one frame.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTHS = struct.Struct("!II")
MAX = 256 << 20

Frame = tuple[dict[str, Any], bytes]


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """The bytes of one frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTHS.pack(4 + len(text) + len(body), len(text)) + text + body


class Unpacker:
    """Bytes in, whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ValueError on nonsense."""
        self._buffer += data
        out: list[Frame] = []
        while len(self._buffer) >= 8:
            total, head = _LENGTHS.unpack_from(self._buffer)
            if total > MAX or head > total:
                raise ValueError("frame out of bounds")
            if len(self._buffer) < 4 + total:
                break
            header = json.loads(bytes(self._buffer[8 : 8 + head]))
            out.append((header, bytes(self._buffer[8 + head : 4 + total])))
            del self._buffer[: 4 + total]
        return out


def send(sock: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    """Send one frame, blocking."""
    sock.sendall(pack(header, body))


def receive(sock: socket.socket) -> Frame | None:
    """Receive one frame, blocking; None at the end of the connection."""
    head = _exactly(sock, 4)
    if head is None:
        return None
    rest = _exactly(sock, int.from_bytes(head, "big"))
    if rest is None:
        return None
    return Unpacker().feed(head + rest)[0]


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    out = bytearray()
    while len(out) < size:
        data = sock.recv(size - len(out))
        if not data:
            return None
        out += data
    return bytes(out)
