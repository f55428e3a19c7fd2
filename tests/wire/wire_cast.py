"""The packets that the tcpdump tests print: one list, in capture order, of frame_to_bytes()'s arguments.

`write_capture()` makes the pcapng that real tcpdump reads. tests/wire/recordings/tcpdump.json keeps what tcpdump 4.99.3
(libpcap 1.10.3, Debian 12) printed for it, so that the comparison also runs where tcpdump is not installed. To record
again: `python tests/wire/wire_cast.py`.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import tempfile
from typing import Any

from kubenet.wire import dns
from kubenet.wire.addr import BROADCAST_MAC, ip4, ip6, mac
from kubenet.wire.arp import ArpHdr
from kubenet.wire.dns import DnsMessage, Question, Record, build_dns
from kubenet.wire.ethernet import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, EthHdr
from kubenet.wire.icmp import IcmpHdr, Quote, build_icmp
from kubenet.wire.ipv4 import IP_CE, IP_DF, IP_MF, IpHdr
from kubenet.wire.ipv6 import Ipv6Hdr
from kubenet.wire.packet import ParsedFrame, frame_to_bytes
from kubenet.wire.pcap import PcapngWriter
from kubenet.wire.tcp import ACK, CWR, ECE, FIN, NO_OPTIONS, PSH, RST, SYN, URG, TcpHdr, TcpOptions, build_tcp
from kubenet.wire.udp import UdpHdr, build_udp
from kubenet.wire.vxlan import VxlanHdr, build_vxlan

CLIENT, WEB, GATEWAY = ip4("10.48.1.5"), ip4("10.48.2.7"), ip4("10.48.1.1")
NODE1, NODE2 = ip4("172.18.0.2"), ip4("172.18.0.3")
CLIENT6, WEB6 = ip6("fd00:10:48:1::5"), ip6("fd00:10:48:2::7")
MAC_CLIENT, MAC_GATEWAY = mac("02:00:0a:30:01:05"), mac("02:00:0a:30:01:01")
EPOCH = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
STEP = 1_001_001_000

RECORDING = pathlib.Path(__file__).parent / "recordings" / "tcpdump.json"
STYLES = ("-t", "-t -e", "-t -S", "-t -q", "-t -v", "-t -vvv", "-t -e -v", "-t -q -e")
STAMPS = ("", "-tt", "-ttt", "-tttt", "-ttttt", "--nano", "-tttt --nano", "-x", "-XX -e", "-AA")

Frame = tuple[Any, Any, Any, Any, bytes, bool]

ETH4 = EthHdr(MAC_GATEWAY, MAC_CLIENT, ETH_P_IP)
ETH6 = EthHdr(MAC_GATEWAY, MAC_CLIENT, ETH_P_IPV6)
ARP_ALL = EthHdr(BROADCAST_MAC, MAC_CLIENT, ETH_P_ARP)
ARP_BACK = EthHdr(MAC_CLIENT, MAC_GATEWAY, ETH_P_ARP)


def v4(proto: int, back: bool = False, **fields: Any) -> IpHdr:
    """An IPv4 header from the client to web-0, or back."""
    return IpHdr(WEB if back else CLIENT, CLIENT if back else WEB, proto, **fields)


def v6(proto: int, back: bool = False, **fields: Any) -> Ipv6Hdr:
    return Ipv6Hdr(WEB6 if back else CLIENT6, CLIENT6 if back else WEB6, proto, **fields)


def arp_frames() -> list[Frame]:
    return [
        (eth, arp, None, None, b"", False)
        for eth, arp in (
            (ARP_ALL, ArpHdr(1, MAC_CLIENT, CLIENT, 0, GATEWAY)),
            (ARP_BACK, ArpHdr(2, MAC_GATEWAY, GATEWAY, MAC_CLIENT, CLIENT)),
            (ARP_ALL, ArpHdr(1, MAC_CLIENT, CLIENT, 0, CLIENT)),
            (ARP_ALL, ArpHdr(1, MAC_CLIENT, 0, 0, CLIENT)),
            (EthHdr(MAC_GATEWAY, MAC_CLIENT, ETH_P_ARP), ArpHdr(1, MAC_CLIENT, CLIENT, MAC_GATEWAY, WEB)),
        )
    ]


def udp_frames() -> list[Frame]:
    inner = ParsedFrame(ETH4, v4(6), TcpHdr(40000, 80, 1, 0, SYN, 64240, TcpOptions(1460, 10, True, True, 1, 0)))
    vxlan = build_vxlan(VxlanHdr(1))
    outer = IpHdr(NODE1, NODE2, 17)
    return [
        (ETH4, v4(17, id=7), UdpHdr(40000, 5000), None, b"hello", False),
        (ETH4, v4(17, id=7), UdpHdr(40000, 5000), None, b"", False),
        (ETH4, v4(17), UdpHdr(1, 2), None, b"hello", True),
        (ETH4, v4(17, options=b"\x94\4\0\0"), UdpHdr(1, 2), None, b"hi", False),
        (ETH4, v4(17, tos=3), UdpHdr(1, 2), None, b"hi", False),
        (ETH4, v4(17, tos=1, ttl=1, frag=0), UdpHdr(1, 2), None, b"hi", False),
        (ETH4, outer, UdpHdr(43000, 8472), inner, vxlan, False),
        (ETH4, outer, UdpHdr(43000, 4789), inner, vxlan, False),
        (ETH6, v6(17, hop_limit=1, tclass=0xB8), UdpHdr(1, 2), None, b"hi", False),
        (ETH4, v4(253), None, None, b"x" * 20, False),
        (ETH6, v6(253), None, None, b"x" * 20, False),
        (ETH6, v6(59), None, None, b"", False),
        (EthHdr(MAC_GATEWAY, MAC_CLIENT, 0x9999), None, None, None, b"x" * 20, False),
    ]


def fragments() -> list[Frame]:
    udp = build_udp(UdpHdr(40000, 5000), b"x" * 3000) + b"x" * 1472
    echo = build_icmp(IcmpHdr(8, 0, 65537), b"x" * 3000) + b"x" * 1472
    tcp = build_tcp(TcpHdr(1, 2, 3, 4, ACK, 5), b"x" * 3000) + b"x" * 1460
    return [
        (ETH4, v4(proto, frag=frag, id=9), None, None, data, False)
        for proto, frag, data in (
            (17, IP_MF, udp),
            (17, 185 | IP_MF, b"x" * 1480),
            (17, 370, b"x" * 48),
            (1, IP_MF, echo),
            (1, 185, b"x" * 1480),
            (6, IP_MF, tcp),
            (6, 185, b"x" * 1480),
            (17, IP_MF | IP_DF | IP_CE, udp),
        )
    ]


def icmp_frames() -> list[Frame]:
    quote = Quote(v4(17), UdpHdr(40000, 5000), b"hello")
    out: list[Frame] = []

    def error(kind: int, code: int, rest: int = 0, inner: Any = quote) -> None:
        out.append((ETH4, v4(1, True, frag=0, tos=0xC0), IcmpHdr(kind, code, rest), inner, b"", False))

    for code in range(16):
        error(3, code, 1450 if code == 4 else 0)
    for kind, code in ((11, 0), (11, 1), (11, 2), (4, 0), (12, 0), (12, 1)):
        error(kind, code)
    for code in range(4):
        error(5, code, GATEWAY)
    error(3, 4)
    error(3, 3, 0, Quote(v4(6), TcpHdr(40000, 80, 5, 0, SYN, 64240, TcpOptions(mss=1460))))
    error(3, 4, 1450, Quote(v4(6), TcpHdr(40000, 80, 5, 0, ACK, 64240), b"x" * 500, 1500))
    error(3, 3, 0, Quote(v4(1), IcmpHdr(8, 0, 1), b"x" * 20))
    error(3, 2, 0, Quote(v4(253), None, b"x" * 20))
    error(3, 1, 0, Quote(v4(6), TcpHdr(40000, 80, 5, 0, 0, 0, doff=8), b"", 60))
    error(11, 0, 0, Quote(v4(17), UdpHdr(40000, 80), b"x" * 20, 60))
    for kind in (8, 0):
        out.append((ETH4, v4(1), IcmpHdr(kind, 0, 5 << 16 | 1), None, b"x" * 56, False))
    out.append((ETH4, v4(1), IcmpHdr(8, 0, 5 << 16 | 2), None, b"x" * 56, True))
    out.append((ETH4, v4(1), IcmpHdr(77, 3, 5), None, b"x" * 12, False))
    return out


def icmp6_frames() -> list[Frame]:
    quote = Quote(v6(17), UdpHdr(40000, 5000), b"hello")
    long = Quote(v6(6), TcpHdr(40000, 80, 5, 0, ACK, 64240), b"x" * 500, 1500)
    tcp = Quote(v6(6), TcpHdr(1, 2, 3, 4, SYN, 5))
    out: list[Frame] = []

    def message(kind: int, code: int, rest: int, inner: Any = None, data: bytes = b"", **fields: Any) -> None:
        out.append((ETH6, v6(58, True, **fields), IcmpHdr(kind, code, rest), inner, data, False))

    for kind in (128, 129):
        message(kind, 0, 3 << 16 | 7, data=b"x" * 56)
    for code in range(5):
        message(1, code, 0, quote)
    message(1, 4, 0, tcp)
    message(2, 0, 1450, long)
    for kind, code in ((3, 0), (3, 1), (4, 0), (4, 1), (4, 2)):
        message(kind, code, 6 if kind == 4 else 0, quote)
    target, own = WEB6.to_bytes(16, "big"), MAC_CLIENT.to_bytes(6, "big")
    message(135, 0, 0, None, target + b"\1\1" + own, hop_limit=255)
    message(135, 0, 0, None, target, hop_limit=255)
    for flags in (0xE000_0000, 0x6000_0000, 0x2000_0000, 0):
        message(136, 0, flags, None, target + b"\2\1" + own, hop_limit=255)
    message(133, 0, 0, None, b"\1\1" + own, hop_limit=255)
    return out


def tcp_frame(
    flags: int,
    seq: int,
    ack: int,
    options: TcpOptions = NO_OPTIONS,
    data: bytes = b"",
    back: bool = False,
    ports: tuple[int, int] = (40000, 8080),
    six: bool = False,
    bad: bool = False,
    window: int = 502,
) -> Frame:
    sport, dport = (ports[1], ports[0]) if back else ports
    l3 = v6(6, back, flow=0x12345) if six else v4(6, back, id=1234)
    tcp = TcpHdr(sport, dport, seq, ack, flags, window, options, 5 if flags & URG else 0)
    return (ETH6 if six else ETH4, l3, tcp, None, data, bad)


def tcp_connection(six: bool) -> list[Frame]:
    """One connection from SYN to RST, with a SACK each way, a bad checksum and odd flags."""
    ts = TcpOptions(ts=True, tsval=101, tsecr=200)
    two = TcpOptions(ts=True, tsval=1, tsecr=2, sacks=((6001, 7001), (8001, 9001)))
    one = TcpOptions(ts=True, tsval=1, tsecr=2, sacks=((1201, 1301),))
    syn = TcpOptions(1460, 10, True, True, 100, 0)
    get = b"GET / HTTP/1.1\r\nHost: web\r\nUser-Agent: curl/8\r\n\r\n"
    reply = b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello\nworld\n\x01\xff"
    return [
        tcp_frame(SYN, 1000, 0, syn, six=six, window=64240),
        tcp_frame(SYN | ACK, 5000, 1001, TcpOptions(1460, 10, True, True, 200, 100), b"", True, six=six, window=65160),
        tcp_frame(ACK, 1001, 5001, ts, six=six),
        tcp_frame(PSH | ACK, 1001, 5001, ts, get, six=six),
        tcp_frame(ACK, 5001, 1051, ts, b"", True, six=six),
        tcp_frame(PSH | ACK, 5001, 1051, ts, reply, True, six=six),
        tcp_frame(ACK, 1051, 5001, two, six=six),
        tcp_frame(ACK, 5001, 1051, one, b"", True, six=six),
        tcp_frame(ACK, 1052, 5001, ts, b"x" * 1448, six=six),
        tcp_frame(FIN | ACK, 2500, 5001, ts, six=six),
        tcp_frame(FIN | PSH | ACK, 2500, 5001, ts, b"abc", six=six),
        tcp_frame(RST, 2501, 0, six=six, window=0),
        tcp_frame(RST | ACK, 5001, 2501, NO_OPTIONS, b"", True, six=six, window=0),
        tcp_frame(RST | ACK, 5001, 2501, NO_OPTIONS, b"", True, six=six, window=0, bad=True),
        tcp_frame(0, 1, 1, six=six),
        tcp_frame(ACK | URG, 2501, 5001, NO_OPTIONS, b"oob", six=six),
        tcp_frame(SYN | ECE | CWR, 1000, 0, syn, six=six),
        tcp_frame(SYN | ACK | ECE, 1000, 1, syn, six=six),
    ]


def tcp_oddities() -> list[Frame]:
    """Options in all combinations, connections met in the middle or between equal ports, and text protocols."""
    http, resp, equal = (43001, 80), (43010, 6379), (300, 300)
    out = [
        tcp_frame(SYN, 77, 0, options, ports=(41000, 8080))
        for options in (
            TcpOptions(mss=1460, wscale=7),
            TcpOptions(1460, 7, True),
            TcpOptions(1460, 7, False, True, 1, 0),
            TcpOptions(1460, fastopen=b""),
            TcpOptions(1460, fastopen=b"12345678"),
            TcpOptions(other=b"\x13\x12" + b"k" * 16),
            TcpOptions(other=b"\xfd\x04ab"),
        )
    ]
    for ports in ((300, 9999), equal, (42000, 8443)):
        out.append(tcp_frame(SYN | ACK, 5000, 1001, back=True, ports=ports))
        out.append(tcp_frame(PSH | ACK, 1001, 5001, data=b"hi", ports=ports))
        out.append(tcp_frame(ACK, 5001, 1003, back=True, ports=ports))
    out.append(tcp_frame(PSH | ACK, 900, 4900, data=b"mid", ports=(42001, 5432)))
    out.append(tcp_frame(PSH | ACK, 903, 4900, data=b"stream", ports=(42001, 5432)))
    out.append(tcp_frame(ACK, 4900, 909, back=True, ports=(42001, 5432)))
    out.append(tcp_frame(RST, 77, 0, data=b"reset", ports=(5555, 5556)))
    out.append(tcp_frame(SYN, 0xFFFF_FFFF, 0, data=b"data", ports=(5557, 5558)))
    for data in (
        b"POST /a HTTP/1.1\nHost: a\n\nbody", b"random bytes", b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 404",
        b"GET /x", b"DELETE /x\x01y HTTP/1.1\r\nA: \xe4b\tc\r\n\r\n", b"GETX /x HTTP/1.1\r\n", b"get /x HTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n", b"GET\t/ HTTP/1.1\r\n", b"GET / HTTP/1.1\r", b"\xff\xfe",
    ):  # fmt: skip
        out.append(tcp_frame(PSH | ACK, 1, 1, data=data, ports=http))
    for data in (
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\nx\x01\xffy\r\n", b":12\r\n", b"+OK\r\n", b"-ERR x\r\n", b"$-1\r\n",
        b"$3\r\nfo", b"*0\r\n",
    ):  # fmt: skip
        out.append(tcp_frame(PSH | ACK, 1, 1, data=data, ports=resp))
    return out


NAME = "web.default.svc.cluster.local."
ASK = Question(NAME, dns.A)


def dns_messages() -> list[tuple[DnsMessage, bool]]:
    """(message, is an answer)."""
    found = Record(NAME, dns.A, 5, ip4("10.96.0.1"))
    soa = Record("cluster.local.", dns.SOA, 5, ("ns.dns.", "hostmaster.", 1, 7200, 1800, 86400, 5))
    queries = [
        DnsMessage(4660, rd=True, question=[ASK]),
        DnsMessage(4660, question=[Question(NAME, dns.AAAA)]),
        DnsMessage(1, rd=True, ad=True, question=[ASK], edns_size=1232),
        DnsMessage(1, rd=True, cd=True, question=[ASK], edns_size=1232, edns_do=True),
        DnsMessage(1, rd=True, question=[ASK], edns_size=1232, edns_options=b"\0\x0a\0\x08abcdefgh"),
        DnsMessage(9, rd=True, question=[ASK, ASK]),
        DnsMessage(9, rd=True),
        DnsMessage(9, opcode=5, question=[ASK]),
        DnsMessage(9, rd=True, question=[Question("a\\.b.we\\032ird.", dns.A)]),
        DnsMessage(9, rd=True, question=[Question(".", dns.NS)]),
        DnsMessage(9, rd=True, question=[Question("version.bind.", dns.TXT, 3)]),
    ]
    queries += [DnsMessage(5, rd=True, question=[Question("x.", kind)]) for kind in (*range(1, 66), 99, 252, 255, 300)]

    def answer(*records: Record, **fields: Any) -> DnsMessage:
        return DnsMessage(4660, qr=True, rd=True, ra=True, question=[ASK], answer=list(records), **fields)

    answers = [
        answer(found, aa=True),
        answer(found, Record(NAME, dns.A, 5, 2)),
        answer(aa=True),
        answer(rcode=3, aa=True, authority=[soa]),
        answer(tc=True),
        answer(found, ad=True),
        answer(found, cd=True),
        answer(Record(NAME, dns.AAAA, 5, CLIENT6), edns_size=1232),
        answer(Record(NAME, dns.CNAME, 5, "a.b."), Record("a.b.", dns.A, 30, 9)),
        answer(Record(NAME, dns.SRV, 5, (0, 100, 80, "w.")), additional=[Record("w.", dns.A, 5, 9)]),
        answer(Record(NAME, dns.TXT, 5, (b"hello", b"wor ld\x01"))),
        answer(Record(NAME, dns.MX, 5, (10, "mail."))),
        answer(Record(NAME, dns.PTR, 5, "x.y.")),
        answer(Record(NAME, dns.NS, 500, "x.y.")),
        answer(Record(NAME, 65, 500, b"abcd")),
        answer(Record(NAME, dns.SOA, 90000, ("a.", "b.", 1, 2, 3, 4, 5))),
        DnsMessage(4660, qr=True, question=[ASK], answer=[found]),
    ]
    answers += [answer(rcode=rcode) for rcode in range(1, 16)]
    answers += [answer(Record(NAME, dns.A, ttl, 9)) for ttl in (0, 59, 3600, 86399, 604800, 40_000_000)]
    return [(m, False) for m in queries] + [(m, True) for m in answers]


def dns_frames() -> list[Frame]:
    out: list[Frame] = []
    for message, back in dns_messages():
        udp = UdpHdr(53, 41000) if back else UdpHdr(41000, 53)
        out.append((ETH4, v4(17, back), udp, None, build_dns(message), False))
    query = build_dns(DnsMessage(9, rd=True, question=[ASK]))
    prefixed = len(query).to_bytes(2, "big") + query
    out.append((ETH4, v4(6), TcpHdr(41111, 53, 1, 1, PSH | ACK, 500), None, prefixed, False))
    out.append((ETH6, v6(17), UdpHdr(41000, 53), None, query, False))
    out.append((ETH4, v4(17), UdpHdr(41000, 5353), None, query, False))
    out.append((ETH4, v4(17), UdpHdr(41000, 53), None, b"abc", False))
    return out


def all_frames() -> list[Frame]:
    out = arp_frames() + udp_frames() + fragments() + icmp_frames() + icmp6_frames()
    return out + tcp_connection(False) + tcp_connection(True) + tcp_oddities() + dns_frames()


def write_capture(path: str | pathlib.Path, frames: list[Frame]) -> None:
    with open(path, "wb") as file:
        writer = PcapngWriter(file, ["eth0"])
        for i, frame in enumerate(frames):
            writer.write(0, EPOCH + i * STEP, frame_to_bytes(*frame))


def real_tcpdump(path: str | pathlib.Path, mode: str) -> list[str]:
    """What tcpdump prints for a capture, in lines."""
    done = subprocess.run(
        ["tcpdump", "-n", *mode.split(), "-r", str(path)],
        capture_output=True,
        check=True,
        env={"TZ": "UTC", "PATH": os.environ["PATH"] + ":/usr/sbin"},
    )
    return done.stdout.decode("latin-1").split("\n")[:-1]


def record() -> None:
    version = subprocess.run(["tcpdump", "--version"], capture_output=True, text=True).stdout
    recording: dict[str, list[str]] = {"version": version.splitlines()}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cast.pcapng"
        for modes, frames in ((STYLES, all_frames()), (STAMPS, arp_frames())):
            write_capture(path, frames)
            recording |= {mode: real_tcpdump(path, mode) for mode in modes}
    RECORDING.write_text(json.dumps(recording, indent=0) + "\n")


if __name__ == "__main__":
    record()
