"""Capture files: writes pcapng, reads pcapng and classic pcap.

pcapng (draft-ietf-opsawg-pcapng) is a list of blocks: a Section Header, one Interface Description per device, then
Enhanced Packets. Kubenet writes one file for the whole cluster: each tapped device is an interface, times are
nanoseconds (if_tsresol 9), and a comment per packet can say where in the network it was seen. Wireshark and tcpdump
read it. Reading takes both byte orders, several sections, and classic pcap in microseconds or nanoseconds; blocks we do
not know are skipped, as the draft asks. A malformed file raises WireError with the offset.

    writer = PcapngWriter(file, ["web-0:eth0", Interface("tun0", LINKTYPE_RAW)])
    writer.write(0, t_ns_since_epoch, frame, comment="after DNAT")
    for packet in read_pcapng(file): packet.t_ns, packet.interface.name, packet.data
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import pack, unpack, unpack_from
from typing import BinaryIO

from kubenet.wire.errors import WireError

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101

_SHB = 0x0A0D0D0A
_IDB, _SPB, _EPB = 1, 3, 6
_OPT_END, _OPT_COMMENT = 0, 1
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 2, 9, 14
_SHB_USERAPPL = 4
_EPB_FLAGS = 2
_MAGIC = 0x1A2B3C4D
_MAX_BLOCK = 1 << 24  # wireshark's limit too: nothing honest is larger

DIR_UNKNOWN, DIR_IN, DIR_OUT = 0, 1, 2


@dataclass(slots=True)
class Interface:
    """A device of a capture. tsresol: units per second; tsoffset: seconds to add to every time."""

    name: str
    linktype: int = LINKTYPE_ETHERNET
    snaplen: int = 262144
    tsresol: int = 1_000_000_000
    tsoffset: int = 0


@dataclass(slots=True)
class CapturedPacket:
    """One packet of a file: t_ns is nanoseconds since 1970; orig_len is larger than len(data) if it was cut."""

    t_ns: int
    data: bytes
    orig_len: int
    if_id: int
    interface: Interface
    comment: str = ""
    direction: int = DIR_UNKNOWN


class PcapngWriter:
    """Writes a section header and the interfaces at once, then one block per `write()`. The file stays the caller's."""

    def __init__(self, fileobj: BinaryIO, interfaces: Sequence[str | Interface], application: str = "kubenet") -> None:
        self._file = fileobj
        self.interfaces: list[Interface] = []
        options = _option(_SHB_USERAPPL, application.encode())
        self._block(_SHB, pack("<IHHq", _MAGIC, 1, 0, -1) + _options(options))
        for interface in interfaces:
            self.add_interface(interface)

    def add_interface(self, interface: str | Interface) -> int:
        """Announces one more device and returns its id; allowed between packets."""
        dev = Interface(interface) if isinstance(interface, str) else interface
        options = _option(_IF_NAME, dev.name.encode()) + _option(_IF_TSRESOL, b"\x09")
        self._block(_IDB, pack("<HHI", dev.linktype, 0, dev.snaplen) + _options(options))
        self.interfaces.append(dev)
        return len(self.interfaces) - 1

    def write(
        self, if_id: int, t_ns: int, data: bytes, comment: str = "", direction: int = DIR_UNKNOWN, orig_len: int = 0
    ) -> None:
        """Appends a packet; data beyond the interface's snaplen is cut. t_ns: nanoseconds since the epoch."""
        full = max(orig_len, len(data))
        data = data[: self.interfaces[if_id].snaplen]
        options = _option(_OPT_COMMENT, comment.encode()) if comment else b""
        if direction:
            options += _option(_EPB_FLAGS, pack("<I", direction))
        head = pack("<IIIII", if_id, t_ns >> 32, t_ns & 0xFFFF_FFFF, len(data), full)
        self._block(_EPB, head + _pad(data) + (_options(options) if options else b""))

    def flush(self) -> None:
        """Everything written so far can be read by others."""
        self._file.flush()

    def _block(self, kind: int, body: bytes) -> None:
        total = len(body) + 12
        self._file.write(pack("<II", kind, total) + body + pack("<I", total))


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) & 3)


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + _pad(value)


def _options(options: bytes) -> bytes:
    return options + pack("<HH", _OPT_END, 0)


def read_pcapng(fileobj: BinaryIO) -> Iterator[CapturedPacket]:
    """The packets of a pcapng or classic pcap file, in file order. Raises WireError on the first malformed block."""
    magic = fileobj.read(4)
    if magic == pack("<I", _SHB):
        yield from _Reader(fileobj).packets()
    elif magic in _CLASSIC:
        yield from _read_classic(fileobj, *_CLASSIC[magic])
    else:
        raise WireError(f"capture: starts with {magic.hex() or 'nothing'}, which is neither pcapng nor pcap")


class _Reader:
    """One pass over a pcapng file whose first four bytes were read."""

    def __init__(self, fileobj: BinaryIO) -> None:
        self.file = fileobj
        self.order = "<"
        self.interfaces: list[Interface] = []
        self.offset = 0

    def bad(self, what: str) -> WireError:
        return WireError(f"pcapng: {what} in the block at byte {self.offset}")

    def packets(self) -> Iterator[CapturedPacket]:
        kind, rest = _SHB, b""
        while True:
            if kind == _SHB:
                rest = self.section()
            body = self.body(rest)
            if kind == _IDB:
                self.interface(body)
            elif kind == _EPB:
                yield self.enhanced(body)
            elif kind == _SPB:
                yield self.simple(body)
            head = self.file.read(4)
            if not head:
                return
            if len(head) < 4:
                raise self.bad("the file ends inside the header")
            kind, rest = unpack(self.order + "I", head)[0], b""

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise self.bad("the file ends")
        return data

    def section(self) -> bytes:
        """A Section Header sets the byte order of all that follows. Returns the block's length and magic, read."""
        head = self.read(8)
        for order in "<>":
            if unpack_from(order + "I", head, 4)[0] == _MAGIC:
                self.order = order
                self.interfaces = []
                return head
        raise self.bad("no byte-order magic")

    def body(self, rest: bytes) -> bytes:
        """The bytes between a block's two lengths; `rest` are bytes after the block type that were read already."""
        rest = rest or self.read(4)
        (total,) = unpack_from(self.order + "I", rest)
        if total % 4 or not 12 <= total <= _MAX_BLOCK or total < len(rest) + 8:
            raise self.bad(f"length {total}")
        body = rest[4:] + self.read(total - 4 - len(rest))
        if body[-4:] != rest[:4]:
            raise self.bad("two different lengths")
        self.offset += total
        return body[:-4]

    def options(self, data: bytes) -> dict[int, bytes]:
        """Option code -> value of its first occurrence."""
        found: dict[int, bytes] = {}
        at = 0
        while at + 4 <= len(data):
            code, size = unpack_from(self.order + "HH", data, at)
            if code == _OPT_END:
                break
            if at + 4 + size > len(data):
                raise self.bad("an option longer than the block")
            found.setdefault(code, data[at + 4 : at + 4 + size])
            at += 4 + size + (-size & 3)
        return found

    def interface(self, body: bytes) -> None:
        if len(body) < 8:
            raise self.bad("a short interface description")
        linktype, _, snaplen = unpack_from(self.order + "HHI", body)
        options = self.options(body[8:])
        resol = options.get(_IF_TSRESOL, b"\x06")[:1] or b"\x06"
        power = resol[0] & 0x7F
        offset = options.get(_IF_TSOFFSET, b"")
        self.interfaces.append(
            Interface(
                options.get(_IF_NAME, b"").decode("utf-8", "replace"),
                linktype,
                snaplen,
                2**power if resol[0] & 0x80 else 10**power,
                unpack(self.order + "q", offset)[0] if len(offset) == 8 else 0,
            )
        )

    def device(self, if_id: int) -> Interface:
        if if_id >= len(self.interfaces):
            raise self.bad(f"interface {if_id} was not described")
        return self.interfaces[if_id]

    def enhanced(self, body: bytes) -> CapturedPacket:
        if len(body) < 20:
            raise self.bad("a short packet block")
        if_id, high, low, size, orig_len = unpack_from(self.order + "IIIII", body)
        if 20 + size > len(body):
            raise self.bad(f"captured length {size}")
        dev = self.device(if_id)
        options = self.options(body[20 + size + (-size & 3) :])
        flags = options.get(_EPB_FLAGS, b"")
        return CapturedPacket(
            (high << 32 | low) * 1_000_000_000 // dev.tsresol + dev.tsoffset * 1_000_000_000,
            body[20 : 20 + size],
            orig_len,
            if_id,
            dev,
            options.get(_OPT_COMMENT, b"").decode("utf-8", "replace"),
            unpack(self.order + "I", flags)[0] & 3 if len(flags) == 4 else DIR_UNKNOWN,
        )

    def simple(self, body: bytes) -> CapturedPacket:
        """A Simple Packet: no time, interface 0, cut to its snaplen."""
        if len(body) < 4:
            raise self.bad("a short packet block")
        (orig_len,) = unpack_from(self.order + "I", body)
        dev = self.device(0)
        size = min(orig_len, dev.snaplen or orig_len, len(body) - 4)
        return CapturedPacket(0, body[4 : 4 + size], orig_len, 0, dev)


_CLASSIC = {
    pack("<I", 0xA1B2C3D4): ("<", 1000),
    pack(">I", 0xA1B2C3D4): (">", 1000),
    pack("<I", 0xA1B23C4D): ("<", 1),
    pack(">I", 0xA1B23C4D): (">", 1),
}


def _read_classic(fileobj: BinaryIO, order: str, unit_ns: int) -> Iterator[CapturedPacket]:
    """Classic pcap: one header, then packets until the end. pcap-savefile(5)."""
    head = fileobj.read(20)
    if len(head) < 20:
        raise WireError("pcap: the file ends inside its header")
    _, _, _, _, snaplen, linktype = unpack(order + "HHIIII", head)
    dev = Interface("", linktype & 0x0FFF_FFFF, snaplen)
    while record := fileobj.read(16):
        if len(record) < 16:
            raise WireError("pcap: the file ends inside a packet header")
        sec, frac, size, orig_len = unpack(order + "IIII", record)
        if size > _MAX_BLOCK:
            raise WireError(f"pcap: captured length {size}")
        data = fileobj.read(size)
        if len(data) < size:
            raise WireError("pcap: the file ends inside a packet")
        yield CapturedPacket(sec * 1_000_000_000 + frac * unit_ns, data, orig_len, 0, dev)
