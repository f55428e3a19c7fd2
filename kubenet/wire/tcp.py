"""TCP header and options (RFC 9293 3.1, 7323, 2018, 7413).

TcpHdr is in host byte order; `doff` is the header's length in bytes, so that nobody shifts. Options are one record with
a field per option rather than a list, because every segment reads them. `build_options()` writes them in Linux's order
with Linux's padding (tcp_options_write()), byte for byte what a Linux host sends:

    SYN   mss, sackOK, TS, nop, wscale [, fastopen]   sackOK sits in the two bytes that pad TS to 12
          mss, nop, nop, sackOK, nop, wscale          timestamps off
          mss, nop, nop, TS, nop, wscale              SACK off
    data  nop, nop, TS [, nop, nop, sack 1..4 blocks]

`parse_options()` reads any order and, like tcp_parse_options(), stops quietly at the first malformed option: bad
options never cost a segment. Options without a field here (MD5, AccECN, MPTCP ...) are kept as they are in `other`.
"""

from __future__ import annotations

from struct import Struct

from kubenet.wire.checksum import csum_fold, csum_partial
from kubenet.wire.errors import Header, WireError

FIN = 1
SYN = 2
RST = 4
PSH = 8
ACK = 16
URG = 32
ECE = 64
CWR = 128
AE = 256

TCP_HLEN = 20
MAX_TCP_OPTION_SPACE = 40

TCPOPT_EOL = 0
TCPOPT_NOP = 1
TCPOPT_MSS = 2
TCPOPT_WINDOW = 3
TCPOPT_SACK_PERM = 4
TCPOPT_SACK = 5
TCPOPT_TIMESTAMP = 8
TCPOPT_MD5SIG = 19
TCPOPT_FASTOPEN = 34

_TCP = Struct("!HHIIHHHH")
_TS = Struct("!BBII")
_SACK_BLOCK = Struct("!II")


class TcpOptions(Header):
    """mss 0, wscale -1, fastopen None and ts False mean "not there". fastopen b"" asks for a cookie.

    sacks: (left, right) edges as on the wire, first block first. other: whole unknown options with kind and length.
    """

    __slots__ = ("mss", "wscale", "sack_perm", "ts", "tsval", "tsecr", "sacks", "fastopen", "other")

    def __init__(
        self,
        mss: int = 0,
        wscale: int = -1,
        sack_perm: bool = False,
        ts: bool = False,
        tsval: int = 0,
        tsecr: int = 0,
        sacks: tuple[tuple[int, int], ...] = (),
        fastopen: bytes | None = None,
        other: bytes = b"",
    ) -> None:
        self.mss = mss
        self.wscale = wscale
        self.sack_perm = sack_perm
        self.ts = ts
        self.tsval = tsval
        self.tsecr = tsecr
        self.sacks = sacks
        self.fastopen = fastopen
        self.other = other

    def copy(self) -> TcpOptions:
        return TcpOptions(
            self.mss,
            self.wscale,
            self.sack_perm,
            self.ts,
            self.tsval,
            self.tsecr,
            self.sacks,
            self.fastopen,
            self.other,
        )


NO_OPTIONS = TcpOptions()  # shared by every header without options: never edit it


class TcpHdr(Header):
    """seq, ack_seq: raw 32-bit values, compare only modulo 2^32. window: the 16-bit field, not scaled.

    flags: FIN | SYN ..., 9 bits. doff: header length in bytes; left out, it follows from the options.
    """

    __slots__ = ("sport", "dport", "seq", "ack_seq", "flags", "window", "options", "urg_ptr", "doff")

    def __init__(
        self,
        sport: int,
        dport: int,
        seq: int,
        ack_seq: int,
        flags: int,
        window: int,
        options: TcpOptions = NO_OPTIONS,
        urg_ptr: int = 0,
        doff: int = 0,
    ) -> None:
        self.sport = sport
        self.dport = dport
        self.seq = seq
        self.ack_seq = ack_seq
        self.flags = flags
        self.window = window
        self.options = options
        self.urg_ptr = urg_ptr
        self.doff = doff or (TCP_HLEN if options is NO_OPTIONS else TCP_HLEN + tcp_options_len(options))

    def copy(self) -> TcpHdr:
        """Shares `options`: whoever changes an option sets a new record."""
        return TcpHdr(
            self.sport,
            self.dport,
            self.seq,
            self.ack_seq,
            self.flags,
            self.window,
            self.options,
            self.urg_ptr,
            self.doff,
        )


def tcp_options_len(opt: TcpOptions) -> int:
    """Bytes the options take, padding included. Linux: tcp_established_options(), tcp_syn_options()."""
    size = 12 if opt.ts else 0
    if opt.sacks:
        size += 4 + 8 * len(opt.sacks)
    if opt.mss:
        size += 4
    if opt.wscale >= 0:
        size += 4
    if opt.sack_perm and not opt.ts:
        size += 4
    if opt.fastopen is not None:
        size += 2 + len(opt.fastopen) + 3 & ~3
    if opt.other:
        size += len(opt.other) + 3 & ~3
    return size


def build_options(opt: TcpOptions, tight: bool = False) -> bytes:
    """The options in Linux's order; `tight` leaves out the NOPs in front of each. Linux: tcp_options_write()."""
    nop, nopnop = (b"", b"") if tight else (b"\1", b"\1\1")
    out = b""
    if opt.mss:
        out += b"\2\4" + opt.mss.to_bytes(2, "big")
    if opt.ts:
        out += b"\4\2" if opt.sack_perm else nopnop
        out += _TS.pack(TCPOPT_TIMESTAMP, 10, opt.tsval, opt.tsecr)
    elif opt.sack_perm:
        out += nopnop + b"\4\2"
    if opt.wscale >= 0:
        out += nop + bytes((TCPOPT_WINDOW, 3, opt.wscale))
    if opt.sacks:
        blocks = b"".join([_SACK_BLOCK.pack(left, right) for left, right in opt.sacks])
        out += nopnop + bytes((TCPOPT_SACK, 2 + len(blocks))) + blocks
    if opt.fastopen is not None:
        out += bytes((TCPOPT_FASTOPEN, 2 + len(opt.fastopen))) + opt.fastopen
        out += nop * (-len(out) & 3)
    if opt.other:
        if opt.other[0] == TCPOPT_MD5SIG:  # Linux writes it first: nop, nop, md5
            return nopnop + opt.other + nop * (-len(nopnop + opt.other) & 3) + out
        out += opt.other + nop * (-len(opt.other) & 3)
    return out


def parse_options(data: bytes | memoryview) -> TcpOptions:
    """What the option bytes say, up to the first malformed one. Never raises. Linux: tcp_parse_options()."""
    if not data:
        return NO_OPTIONS
    data = bytes(data)
    if len(data) == 12 and data.startswith(b"\1\1\x08\x0a"):  # nearly every segment. Linux: tcp_fast_parse_options()
        return TcpOptions(0, -1, False, True, int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:], "big"))
    opt = TcpOptions()
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            at += 1
            continue
        size = data[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            break
        _parse_option(opt, kind, data[at : at + size])
        at += size
    return opt


def _parse_option(opt: TcpOptions, kind: int, option: bytes) -> None:
    """Sets the field of one whole option; one of a known kind with a wrong length is kept as unknown."""
    size = len(option)
    if kind == TCPOPT_MSS and size == 4:
        opt.mss = int.from_bytes(option[2:], "big")
    elif kind == TCPOPT_WINDOW and size == 3:
        opt.wscale = option[2]
    elif kind == TCPOPT_SACK_PERM and size == 2:
        opt.sack_perm = True
    elif kind == TCPOPT_TIMESTAMP and size == 10:
        opt.ts = True
        _, _, opt.tsval, opt.tsecr = _TS.unpack(option)
    elif kind == TCPOPT_SACK and size >= 10 and (size - 2) % 8 == 0:
        opt.sacks = tuple([_SACK_BLOCK.unpack_from(option, i) for i in range(2, size, 8)])
    elif kind == TCPOPT_FASTOPEN:
        opt.fastopen = option[2:]
    else:
        opt.other += option


def build_tcp(tcp: TcpHdr, payload: bytes | memoryview, pseudo: int = 0) -> bytes:
    """The `doff` bytes before `payload`, with the checksum; `pseudo` is the sum of the pseudo header."""
    options = b""
    doff = tcp.doff
    if doff != TCP_HLEN or tcp.options is not NO_OPTIONS:
        options = build_options(tcp.options)
        if len(options) > doff - TCP_HLEN:  # a stranger packed them closer than Linux does
            options = build_options(tcp.options, tight=True)
        options += bytes(doff - TCP_HLEN - len(options))
    head = _TCP.pack(
        tcp.sport,
        tcp.dport,
        tcp.seq,
        tcp.ack_seq,
        doff << 10 | tcp.flags,
        tcp.window,
        0,
        tcp.urg_ptr,
    )
    head += options
    check = csum_fold(csum_partial(payload, csum_partial(head, pseudo)))
    return head[:16] + check.to_bytes(2, "big") + head[18:]


def parse_tcp(data: bytes | memoryview) -> TcpHdr:
    """The header at the start of `data`; the payload starts at its `doff`. Raises WireError. Linux: tcp_v4_rcv()."""
    if len(data) < TCP_HLEN:
        raise WireError(f"TCP: {len(data)} bytes, a header has 20")
    sport, dport, seq, ack_seq, off_flags, window, _, urg_ptr = _TCP.unpack_from(data)
    doff = off_flags >> 12 << 2
    if doff < TCP_HLEN or doff > len(data):
        raise WireError(f"TCP: header length {doff} is not within 20..{len(data)}")
    options = parse_options(data[TCP_HLEN:doff])
    return TcpHdr(sport, dport, seq, ack_seq, off_flags & 0x1FF, window, options, urg_ptr, doff)
