"""DNS as tcpdump prints it (print-domain.c), from the raw bytes.

    query     4660+ [1au] A? web.default.svc.cluster.local. (58)
    answer    4660* 1/0/1 A 10.96.0.1 (74)

After the id: `+` recursion desired, `%` checking disabled; in answers the response code unless it is NoError, then `*`
authoritative, `-` recursion not available, `|` truncated, `$` authentic data. Then the counts of answer, authority and
additional records, and the data of the answers; -v adds owner names, -vv the question and the other sections, -vvv
times to live. A message that ends too early ends in `[|domain]`.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

from kubenet.wire.addr import ip4_text, ip6_text
from kubenet.wire.dns import AAAA, CNAME, MX, NS, OPT, PTR, SOA, SRV, TXT, A, name_labels, read_name
from kubenet.wire.errors import WireError
from kubenet.wire.pretty_text import safe

_OPS = ("", " inv_q", " stat", " op3", " notify", " update") + tuple(f" op{n}" for n in range(6, 16))
_RCODES = (
    "", " FormErr", " ServFail", " NXDomain", " NotImp", " Refused", " YXDomain", " YXRRSet", " NXRRSet", " NotAuth",
    " NotZone", " Resp11", " Resp12", " Resp13", " Resp14", " NoChange",
)  # fmt: skip
_TYPES = {
    1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL", 11: "WKS",
    12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN", 21: "RT",
    22: "NSAP", 23: "NSAP_PTR", 24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA", 29: "LOC", 30: "NXT",
    31: "EID", 32: "NIMLOC", 33: "SRV", 34: "ATMA", 35: "NAPTR", 36: "KX", 37: "CERT", 38: "A6", 39: "DNAME",
    40: "SINK", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY",
    99: "SPF", 100: "UINFO", 101: "UID", 102: "GID", 103: "UNSPEC", 104: "UNSPECA", 249: "TKEY", 250: "TSIG",
    251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY", 256: "URI",
}  # fmt: skip
_CLASSES = {1: "IN", 3: "CHAOS", 4: "HS", 255: "ANY"}
_UNUSUAL_IN_QUERY = 0x06CF  # AA, TC, RA, Z and rcode have no business in a query


def dns_text(data: bytes, length: int, verbose: int, is_mdns: bool = False) -> str:
    """The message, ending in its length in parentheses. tcpdump: domain_print()."""
    if length < 12:
        return f"domain [length {length} < 12] (invalid)"
    if len(data) < 12:
        return " [|domain]"
    walk = _Walk(data, verbose, is_mdns)
    try:
        walk.message()
    except (WireError, StructError, IndexError):
        return walk.out + " [|domain]"
    return f"{walk.out} ({length})"


class _Walk:
    """One pass over a message; `out` is the text so far."""

    def __init__(self, data: bytes, verbose: int, is_mdns: bool) -> None:
        self.data = data
        self.verbose = verbose
        self.is_mdns = is_mdns
        self.at = 12
        self.out = ""

    def message(self) -> None:
        id_, flags, qd, an, ns, ar = unpack_from("!HHHHHH", self.data)
        if flags & 0x8000:
            self.response(id_, flags, qd, (an, ns, ar))
        else:
            self.query(id_, flags, qd, (an, ns, ar))

    def query(self, id_: int, flags: int, qd: int, counts: tuple[int, int, int]) -> None:
        self.out = f"{id_}{_OPS[flags >> 11 & 15]}{'+' if flags & 0x100 else ''}{'%' if flags & 0x10 else ''}"
        if flags & _UNUSUAL_IN_QUERY:
            self.out += f" [b2&3=0x{flags:x}]"
        for count, mark in ((counts[0], "a"), (qd if qd != 1 else 0, "q"), (counts[1], "n"), (counts[2], "au")):
            if count:
                self.out += f" [{count}{mark}]"
        if qd == 0:
            self.out += " [0q]"
        for _ in range(qd):
            self.question()
        if self.verbose > 1:
            for count, label in zip(counts, ("an", "ns", "ar"), strict=True):
                self.section(count, f" {label}:")

    def response(self, id_: int, flags: int, qd: int, counts: tuple[int, int, int]) -> None:
        marks = ("*" if flags & 0x400 else "") + ("" if flags & 0x80 else "-")
        marks += ("|" if flags & 0x200 else "") + ("$" if flags & 0x20 else "")
        self.out = f"{id_}{_OPS[flags >> 11 & 15]}{_RCODES[flags & 15]}{marks}"
        if qd != 1:
            self.out += f" [{qd}q]"
        for i in range(qd):
            if self.verbose > 1:
                self.out += " q:" if i == 0 else ","
                self.question()
            else:
                self.at = read_name(self.data, self.at)[1] + 4
        self.out += f" {counts[0]}/{counts[1]}/{counts[2]}"
        self.section(counts[0], "")
        if self.verbose > 1:
            self.section(counts[1], " ns:")
            self.section(counts[2], " ar:")

    def section(self, count: int, label: str) -> None:
        for i in range(count):
            self.out += label if i == 0 else ","
            self.record()

    def name(self) -> str:
        name, self.at = read_name(self.data, self.at)
        return "".join(safe(label) + "." for label in name_labels(name)) or "."

    def question(self) -> None:
        """` A? name`. tcpdump: ns_qprint()."""
        name = self.name()
        kind, klass = unpack_from("!HH", self.data, self.at)
        self.at += 4
        self.out += f" {_type(kind)}"
        if self.is_mdns:
            self.out += " (QU)" if klass & 0x8000 else " (QM)"
            klass &= 0x7FFF
        if klass != 1:
            self.out += f" {_CLASSES.get(klass, f'Class{klass}')}"
        self.out += f"? {name}"

    def record(self) -> None:
        """` [name [ttl]] TYPE data`. tcpdump: ns_rprint()."""
        name = self.name()
        kind, klass, ttl, size = unpack_from("!HHIH", self.data, self.at)
        self.at += 10
        if self.verbose:
            self.out += f" {name}"
        if self.is_mdns:
            if klass & 0x8000:
                self.out += " (Cache flush)"
            klass &= 0x7FFF
        if klass != 1 and kind != OPT:
            self.out += f" {_CLASSES.get(klass, f'Class{klass}')}"
        if self.verbose > 2 and kind != OPT:
            self.out += f" [{_ttl_text(ttl)}]"
        self.out += f" {_type(kind)}"
        end: int = self.at + size
        if end > len(self.data):
            raise WireError("DNS: record is cut")
        self.rdata(kind, klass, ttl, end)
        self.at = end

    def rdata(self, kind: int, klass: int, ttl: int, end: int) -> None:
        data, at = self.data, self.at
        if kind == A:
            self.out += f" {ip4_text(int.from_bytes(data[at : at + 4], 'big'))}"
        elif kind == AAAA:
            self.out += f" {ip6_text(int.from_bytes(data[at : at + 16], 'big'))}"
        elif kind in (NS, CNAME, PTR):
            self.out += f" {self.name()}"
        elif kind == SOA and self.verbose:
            mname, rname = self.name(), self.name()
            numbers = unpack_from("!IIIII", data, self.at)
            self.out += f" {mname} {rname} {' '.join(map(str, numbers))}"
        elif kind == MX:
            self.at += 2
            self.out += f" {self.name()} {unpack_from('!H', data, at)[0]}"
        elif kind == SRV:
            priority, weight, port = unpack_from("!HHH", data, at)
            self.at += 6
            self.out += f" {self.name()}:{port} {priority} {weight}"
        elif kind == TXT:
            while at < end:
                self.out += f' "{safe(data[at + 1 : at + 1 + data[at]])}"'
                at += 1 + data[at]
        elif kind == OPT:
            self.opt(klass, ttl, at, end)

    def opt(self, klass: int, ttl: int, at: int, end: int) -> None:
        """EDNS0. RFC 6891."""
        self.out += f" UDPsize={klass}"
        if ttl & 0x8000:
            self.out += " DO"
        options = []
        while at + 4 <= end:
            code, size = unpack_from("!HH", self.data, at)
            name = {3: "NSID", 8: "ECS", 10: "COOKIE", 12: "PADDING", 15: "EDE"}.get(code, f"Opt{code}")
            value = self.data[at + 4 : at + 4 + size].hex()
            options.append(f"{name} {value}" if value else name)
            at += 4 + size
        if options:
            self.out += f" [{','.join(options)}]"


def _type(kind: int) -> str:
    return _TYPES.get(kind, f"Type{kind}")


def _ttl_text(sec: int) -> str:
    """`1h30m`. tcpdump: unsigned_relts_print()."""
    out = ""
    for unit, size in (("y", 31536000), ("w", 604800), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if sec >= size:
            out += f"{sec // size}{unit}"
            sec %= size
    return out or "0s"
