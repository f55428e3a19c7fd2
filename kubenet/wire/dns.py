"""DNS messages (RFC 1035, SRV RFC 2782, AAAA RFC 3596, EDNS0 RFC 6891).

Names are absolute text with the final dot, "web.default.svc.cluster.local."; the root is ".". Bytes that would be
misread in text are escaped as in zone files (RFC 1035 5.1: `\\.` and `\\DDD`). Case is kept as it came, comparisons are
the caller's (`name.lower()`; RFC 4343). The data of a record depends on its type:

    A, AAAA           int                       TXT   tuple of bytes
    CNAME, NS, PTR    name                      SRV   (priority, weight, port, target)
    MX                (preference, name)        SOA   (mname, rname, serial, refresh, retry, expire, minimum)
    others            bytes

The OPT record of EDNS0 is no Record: `edns_size` (0 = no EDNS), `edns_do` and `edns_options` stand for it.
`build_dns(msg, limit)` compresses names (but not SRV targets, RFC 2782) and, above `limit`, leaves out whole records
from the end and sets TC, as servers do (RFC 2181 9). `parse_dns` raises only WireError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import error as StructError
from struct import pack, unpack_from
from typing import Any

from kubenet.wire.errors import WireError

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 255
CLASS_IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

TYPE_NAMES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
    35: "NAPTR", 41: "OPT", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 252: "AXFR",
    255: "ANY", 257: "CAA",
}  # fmt: skip
TYPE_NUMBERS = {name: number for number, name in TYPE_NAMES.items()}
RCODE_NAMES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

_QR, _AA, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_DO = 0x8000


@dataclass(slots=True)
class Question:
    """What is asked: name, type, class."""

    name: str
    type: int
    klass: int = CLASS_IN


@dataclass(slots=True)
class Record:
    """A resource record; `data` by type, see above. ttl in seconds."""

    name: str
    type: int
    ttl: int
    data: Any
    klass: int = CLASS_IN


@dataclass(slots=True)
class DnsMessage:
    """A query (qr False) or a response. rcode may have EDNS's upper bits (RFC 6891 6.1.3)."""

    id: int
    qr: bool = False
    opcode: int = 0
    aa: bool = False
    tc: bool = False
    rd: bool = False
    ra: bool = False
    ad: bool = False
    cd: bool = False
    rcode: int = 0
    question: list[Question] = field(default_factory=list)
    answer: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    edns_size: int = 0
    edns_do: bool = False
    edns_options: bytes = b""


def name_labels(name: str) -> list[bytes]:
    """The labels of a name in text form, with or without the final dot. Raises ValueError: empty or over-long label,
    name over 255 bytes, bad escape. RFC 1035 2.3.4 and 5.1."""
    if name in (".", ""):
        return []
    labels, label, at = [], bytearray(), 0
    while at < len(name):
        char = name[at]
        if char == "\\":
            digits = name[at + 1 : at + 4]
            if digits.isascii() and digits.isdigit() and len(digits) == 3 and int(digits) < 256:
                label.append(int(digits))
                at += 4
                continue
            at += 1
            char = name[at : at + 1]
            if not char or char.isdigit():
                raise ValueError(f"{name!r} has a bad escape")
        elif char == ".":
            labels.append(bytes(label))
            label = bytearray()
            at += 1
            continue
        if ord(char) > 126:
            raise ValueError(f"{name!r} is not ASCII")
        label.append(ord(char))
        at += 1
    if label or not name.endswith("."):
        labels.append(bytes(label))
    if not all(0 < len(label) <= 63 for label in labels):
        raise ValueError(f"{name!r} has an empty label or one over 63 bytes")
    if sum(len(label) + 1 for label in labels) + 1 > 255:
        raise ValueError(f"{name!r} is longer than 255 bytes")
    return labels


def labels_name(labels: list[bytes]) -> str:
    """The text of labels, escaped where needed, with the final dot."""
    return "".join(_label_text(label) + "." for label in labels) or "."


def _label_text(label: bytes) -> str:
    if label.isalnum():
        return label.decode("ascii")
    return "".join(
        chr(b) if 0x21 <= b <= 0x7E and b not in b'."\\;()@$' else f"\\{chr(b)}" if 0x21 <= b <= 0x7E else f"\\{b:03d}"
        for b in label
    )


# -- building ------------------------------------------------------------------------------------------------------


class _Writer:
    """A message under construction: bytes so far and where each name suffix was first written."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.seen: dict[tuple[bytes, ...], int] = {}

    def name(self, name: str, compress: bool = True) -> None:
        """Appends a name, ending in a pointer where a suffix is known. RFC 1035 4.1.4."""
        labels = tuple(name_labels(name))
        for i in range(len(labels)):
            suffix = labels[i:]
            known = self.seen.get(suffix)
            if known is not None and compress:
                self.out += pack("!H", 0xC000 | known)
                return
            if len(self.out) < 0x4000 and known is None:
                self.seen[suffix] = len(self.out)
            self.out.append(len(labels[i]))
            self.out += labels[i]
        self.out.append(0)

    def record(self, record: Record) -> None:
        self.name(record.name)
        self.out += pack("!HHIH", record.type, record.klass, record.ttl, 0)
        start = len(self.out)
        self.rdata(record.type, record.data)
        self.out[start - 2 : start] = pack("!H", len(self.out) - start)

    def rdata(self, kind: int, data: Any) -> None:
        if kind == A:
            self.out += data.to_bytes(4, "big")
        elif kind == AAAA:
            self.out += data.to_bytes(16, "big")
        elif kind in (CNAME, NS, PTR):
            self.name(data)
        elif kind == SRV:
            self.out += pack("!HHH", *data[:3])
            self.name(data[3], compress=False)
        elif kind == MX:
            self.out += pack("!H", data[0])
            self.name(data[1])
        elif kind == SOA:
            self.name(data[0])
            self.name(data[1])
            self.out += pack("!IIIII", *data[2:])
        elif kind == TXT:
            for text in data:
                self.out.append(len(text))
                self.out += text
        else:
            self.out += data

    def undo(self, size: int) -> None:
        """Takes back everything after `size` bytes."""
        del self.out[size:]
        self.seen = {suffix: at for suffix, at in self.seen.items() if at < size}


def build_dns(msg: DnsMessage, limit: int = 0) -> bytes:
    """The message; with `limit` at most so many bytes (512 without EDNS, RFC 1035 4.2.1), truncated with TC set."""
    writer = _Writer()
    writer.out += bytes(12)
    for question in msg.question:
        writer.name(question.name)
        writer.out += pack("!HH", question.type, question.klass)
    edns = _build_opt(msg) if msg.edns_size else b""
    counts = [len(msg.question), 0, 0, 0]
    truncated = msg.tc
    for section, records in enumerate((msg.answer, msg.authority, msg.additional), start=1):
        for record in records:
            size = len(writer.out)
            writer.record(record)
            if limit and len(writer.out) + len(edns) > limit:
                writer.undo(size)
                truncated = truncated or section < 3  # a lost hint is no truncation. RFC 2181 9
                break
            counts[section] += 1
    writer.out += edns
    counts[3] += 1 if edns else 0
    writer.out[:12] = pack("!HHHHHH", msg.id, _flags(msg, truncated), *counts)
    return bytes(writer.out)


def _flags(msg: DnsMessage, tc: bool) -> int:
    bits = (msg.opcode & 15) << 11 | msg.rcode & 15
    bits |= (_QR if msg.qr else 0) | (_AA if msg.aa else 0) | (_TC if tc else 0) | (_RD if msg.rd else 0)
    return bits | (_RA if msg.ra else 0) | (_AD if msg.ad else 0) | (_CD if msg.cd else 0)


def _build_opt(msg: DnsMessage) -> bytes:
    """The OPT pseudo record. RFC 6891 6.1.2."""
    ttl = (msg.rcode >> 4) << 24 | (_DO if msg.edns_do else 0)
    return b"\0" + pack("!HHIH", OPT, msg.edns_size, ttl, len(msg.edns_options)) + msg.edns_options


# -- parsing -------------------------------------------------------------------------------------------------------


def parse_dns(data: bytes) -> DnsMessage:
    """The message in `data`, all of it; bytes after it are ignored. Raises WireError."""
    data = bytes(data)
    if len(data) < 12:
        raise WireError(f"DNS: {len(data)} bytes, a header has 12")
    id_, flags, qd, an, ns, ar = unpack_from("!HHHHHH", data)
    msg = DnsMessage(
        id_,
        bool(flags & _QR),
        flags >> 11 & 15,
        bool(flags & _AA),
        bool(flags & _TC),
        bool(flags & _RD),
        bool(flags & _RA),
        bool(flags & _AD),
        bool(flags & _CD),
        flags & 15,
    )
    try:
        at = 12
        for _ in range(qd):
            name, at = read_name(data, at)
            kind, klass = unpack_from("!HH", data, at)
            msg.question.append(Question(name, kind, klass))
            at += 4
        for count, records in ((an, msg.answer), (ns, msg.authority), (ar, msg.additional)):
            for _ in range(count):
                at = _read_record(msg, data, at, records)
    except (StructError, IndexError):
        raise WireError("DNS: the message ends inside a record") from None
    return msg


def _read_record(msg: DnsMessage, data: bytes, at: int, records: list[Record]) -> int:
    """Appends the record at `at` (OPT goes into the message) and returns where the next one starts."""
    name, at = read_name(data, at)
    kind, klass, ttl, size = unpack_from("!HHIH", data, at)
    at += 10
    end: int = at + size
    if end > len(data):
        raise WireError(f"DNS: {TYPE_NAMES.get(kind, kind)} record of {size} bytes is cut")
    if kind == OPT and records is msg.additional and not msg.edns_size:
        msg.edns_size = max(klass, 512)  # RFC 6891 6.2.3: lower values mean 512
        msg.rcode |= (ttl >> 24) << 4
        msg.edns_do = bool(ttl & _DO)
        msg.edns_options = data[at:end]
    else:
        records.append(Record(name, kind, ttl, _read_rdata(kind, data, at, end), klass))
    return end


def _read_rdata(kind: int, data: bytes, at: int, end: int) -> Any:
    value: Any
    stop = end
    if kind == A:
        value, stop = int.from_bytes(data[at:end], "big"), at + 4
    elif kind == AAAA:
        value, stop = int.from_bytes(data[at:end], "big"), at + 16
    elif kind in (CNAME, NS, PTR):
        value, stop = read_name(data, at)
    elif kind == SRV:
        target, stop = read_name(data, at + 6)
        value = (*unpack_from("!HHH", data, at), target)
    elif kind == MX:
        target, stop = read_name(data, at + 2)
        value = (*unpack_from("!H", data, at), target)
    elif kind == SOA:
        mname, at = read_name(data, at)
        rname, at = read_name(data, at)
        value, stop = (mname, rname, *unpack_from("!IIIII", data, at)), at + 20
    elif kind == TXT:
        value, stop = _read_strings(data, at, end)
    else:
        value = data[at:end]
    if stop != end:
        raise WireError(f"DNS: {TYPE_NAMES.get(kind, kind)} record has a wrong length")
    return value


def _read_strings(data: bytes, at: int, end: int) -> tuple[tuple[bytes, ...], int]:
    strings = []
    while at < end:
        size = data[at]
        strings.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return tuple(strings), at


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """The name at `at` and the offset after it. Pointers must lead backwards, so there are no loops. RFC 1035 4.1.4."""
    labels: list[bytes] = []
    after, total, limit = -1, 1, at
    while True:
        if at >= len(data):
            raise WireError("DNS: the message ends inside a name")
        size = data[at]
        if size >= 0xC0:
            if at + 1 >= len(data):
                raise WireError("DNS: the message ends inside a name")
            if after < 0:
                after = at + 2
            at = (size & 0x3F) << 8 | data[at + 1]
            if at >= limit:
                raise WireError("DNS: a compression pointer that does not lead backwards")
            limit = at
            continue
        if size & 0xC0:
            raise WireError(f"DNS: label type {size >> 6} does not exist")
        at += 1
        if size == 0:
            return labels_name(labels), at if after < 0 else after
        if at + size > len(data):
            raise WireError("DNS: the message ends inside a name")
        total += size + 1
        if total > 255:
            raise WireError("DNS: a name longer than 255 bytes")
        labels.append(data[at : at + size])
        at += size
