"""Packets and rules for comparing counters: what a real router's iptables counts, ours must count.

The packets go from client 10.48.1.5 (MAC 02:00:00:00:00:01) over the router 10.48.1.1 / 10.48.2.1 to web-0 10.48.2.7, which
answers nothing. PACKETS are fields for make(); RULESETS are iptables-restore inputs for the router.
"""

from __future__ import annotations

# ruff: noqa: E501
from typing import Any

from kubenet.wire.addr import ip4
from kubenet.wire.icmp import IcmpHdr, build_icmp
from kubenet.wire.ipv4 import IpHdr, build_ipv4
from kubenet.wire.tcp import TcpHdr, TcpOptions, build_tcp
from kubenet.wire.udp import UdpHdr, build_udp

CLIENT, WEB = "10.48.1.5", "10.48.2.7"
CLIENT_MAC = "02:00:00:00:00:01"
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

PACKETS: list[dict[str, Any]] = [
    {"l4": "tcp", "sport": 40000, "dport": 80, "flags": SYN, "mss": 1460},
    {"l4": "tcp", "sport": 40000, "dport": 80, "flags": SYN, "mss": 1460},
    {"l4": "tcp", "sport": 40001, "dport": 443, "flags": SYN, "mss": 536, "tos": 0xB8},
    {"l4": "tcp", "sport": 40002, "dport": 8080, "flags": ACK, "seq": 5000, "ack": 1, "data": 100},
    {"l4": "tcp", "sport": 40003, "dport": 80, "flags": RST, "seq": 5000},
    {"l4": "tcp", "sport": 40004, "dport": 81, "flags": SYN | FIN},
    {"l4": "tcp", "sport": 40005, "dport": 80, "flags": FIN | ACK | PSH, "seq": 9, "ack": 9},
    {"l4": "tcp", "sport": 1023, "dport": 22, "flags": SYN, "ttl": 10},
    {"l4": "udp", "sport": 53, "dport": 53, "data": 30},
    {"l4": "udp", "sport": 40000, "dport": 53, "data": 1200},
    {"l4": "udp", "sport": 40000, "dport": 80, "data": 1},
    {"l4": "udp", "sport": 40000, "dport": 5353, "tos": 0x10, "data": 0},
    {"l4": "icmp", "type": 8, "code": 0, "data": 56},
    {"l4": "icmp", "type": 0, "code": 0, "data": 56},
    {"l4": "icmp", "type": 13, "code": 0, "data": 12},
    {"l4": "icmp", "type": 8, "code": 1, "data": 8},
    {"l4": "udp", "sport": 40000, "dport": 53, "data": 4, "text": "GET / HTTP/1.0 quiet"},
    {"l4": "tcp", "sport": 40006, "dport": 80, "flags": ACK | URG, "seq": 7, "ack": 8, "ttl": 255},
]


def make(p: dict[str, Any]) -> tuple[IpHdr, Any, bytes]:
    """The headers and data of one of PACKETS."""
    data = p.get("text", "").encode() or bytes(p.get("data", 0))
    proto = {"tcp": 6, "udp": 17, "icmp": 1}[p["l4"]]
    ip = IpHdr(ip4(CLIENT), ip4(WEB), proto, 1, 0x4000, p.get("ttl", 64), p.get("tos", 0))
    if proto == 6:
        options = TcpOptions(mss=p.get("mss", 0))
        return ip, TcpHdr(p["sport"], p["dport"], p.get("seq", 1000), p.get("ack", 0), p["flags"], 64240, options), data
    if proto == 17:
        return ip, UdpHdr(p["sport"], p["dport"]), data
    return ip, IcmpHdr(p["type"], p["code"], 7 << 16 | 1), data


def to_bytes(p: dict[str, Any]) -> bytes:
    """The IP packet as it goes on the wire."""
    ip, l4, data = make(p)
    build = {"tcp": build_tcp, "udp": build_udp}.get(p["l4"])
    if build is None:
        body = build_icmp(l4, data) + data
    else:
        size = len(build(l4, data, 0)) + len(data)
        pseudo = (ip.saddr >> 16) + (ip.saddr & 0xFFFF) + (ip.daddr >> 16) + (ip.daddr & 0xFFFF) + ip.proto + size
        body = build(l4, data, pseudo) + data
    return build_ipv4(ip, len(body)) + body


_EACH = """
-s 10.48.1.5
! -s 10.48.1.0/24
-d 10.48.2.0/24
-d 10.0.2.7/255.0.255.255
-i vethc
-i veth+
! -i vethw
-o vethw
-o vethc
-p tcp
! -p tcp
-p icmp
-p tcp --dport 80
-p tcp ! --dport 80
-p tcp --sport 40000:40002
-p tcp --dport 80:443
-p tcp --syn
-p tcp ! --syn
-p tcp --tcp-flags ALL ACK
-p tcp --tcp-flags SYN,FIN SYN,FIN
-p tcp --tcp-flags ALL NONE
-p tcp --tcp-option 2
-p udp --dport 53
-p udp ! --sport 40000
-p icmp --icmp-type 8
-p icmp --icmp-type 8/0
-p icmp ! --icmp-type echo-request
-p icmp --icmp-type any
-p tcp -m multiport --dports 80,443
-p tcp -m multiport --ports 1023,40001:40003
-p udp -m multiport ! --dports 53
-m length --length 28:60
-m length ! --length :100
-m ttl --ttl-eq 63
-m ttl --ttl-lt 63
-m ttl --ttl-gt 63
-m dscp --dscp-class EF
-m dscp ! --dscp 0
-m mac --mac-source 02:00:00:00:00:01
-m mac ! --mac-source 02:00:00:00:00:02
-m pkttype --pkt-type unicast
-m pkttype ! --pkt-type broadcast
-m iprange --src-range 10.48.1.1-10.48.1.5
-m iprange ! --dst-range 10.48.2.7-10.48.2.9
-m addrtype --dst-type LOCAL
-m addrtype --dst-type UNICAST
-m addrtype ! --src-type LOCAL
-m mark --mark 0
-m mark --mark 1
-m string --algo bm --string GET
-m string --algo kmp --string quiet
-m string --algo bm ! --string HTTP
-m conntrack --ctstate NEW
-m conntrack --ctstate INVALID
-m conntrack --ctstate ESTABLISHED
-m conntrack ! --ctstate NEW
-m conntrack --ctproto udp
-m conntrack --ctorigsrc 10.48.1.0/24 --ctorigdstport 53
-m conntrack --ctreplsrc 10.48.2.7
-m conntrack --ctdir ORIGINAL
-m conntrack --ctdir REPLY
-m conntrack --ctstatus CONFIRMED
-m conntrack --ctstatus NONE
-m conntrack --ctstate DNAT
-m state --state NEW,INVALID
-m statistic --mode nth --every 3 --packet 0
-m statistic --mode nth --every 3 --packet 2
-m statistic --mode nth ! --every 4 --packet 1
-m quota --quota 500
-m quota ! --quota 500
-m limit --limit 1/hour --limit-burst 4
-m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 4 --hashlimit-name h1
-m hashlimit --hashlimit-above 1/hour --hashlimit-burst 2 --hashlimit-mode srcip,dstport --hashlimit-name h2
-m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode srcport --hashlimit-htable-max 3 --hashlimit-name h3
-m hashlimit --hashlimit-upto 16b/s --hashlimit-mode dstip --hashlimit-name h4
-m hashlimit --hashlimit-above 256b/s --hashlimit-burst 1kb --hashlimit-mode dstip --hashlimit-srcmask 8 --hashlimit-name h5
-m hashlimit --hashlimit-upto 5/hour --hashlimit-burst 3 --hashlimit-rate-match --hashlimit-name h6
-m connbytes --connbytes 2 --connbytes-dir both --connbytes-mode packets
-m connbytes --connbytes 0:100 --connbytes-dir original --connbytes-mode bytes
-m connbytes ! --connbytes 60: --connbytes-dir original --connbytes-mode avgpkt
-m connbytes --connbytes 1 --connbytes-dir reply --connbytes-mode packets
-m recent --name a --set
-m recent --name a --rcheck
-m recent --name b --update --hitcount 3
-m recent --name b --set
-m recent --name b --rcheck --hitcount 2 --seconds 60
-m recent --name a ! --remove
-m owner --uid-owner 0
-m physdev --physdev-is-in
-m physdev ! --physdev-is-bridged
-m comment --comment x -m tcp -p tcp --dport 443
-f
! -f
"""

_CHAINS = """*filter
:FORWARD DROP [0:0]
:A - [0:0]
:B - [0:0]
:C - [0:0]
-A FORWARD -p icmp -j A
-A FORWARD -p udp -g B
-A FORWARD -p tcp -j C
-A FORWARD -j ACCEPT
-A A -m ttl --ttl-gt 1 -j B
-A A -p icmp --icmp-type 0 -j DROP
-A A -j RETURN
-A A -j ACCEPT
-A B -p udp --dport 53 -j ACCEPT
-A B -p udp --dport 80 -j RETURN
-A B -p icmp --icmp-type 13 -j DROP
-A B -p udp
-A C -p tcp --dport 22 -j ACCEPT
-A C -p tcp --dport 80 -g B
-A C -p tcp --dport 443 -j RETURN
-A C -p tcp --dport 81 -j DROP
-A C
COMMIT
"""

_MARKS = """*mangle
:PREROUTING ACCEPT [0:0]
:M - [0:0]
-A PREROUTING -p tcp --dport 80 -j MARK --set-mark 0x4000
-A PREROUTING -p udp -j MARK --or-mark 0x3
-A PREROUTING -j M
-A M -m mark --mark 0x4000/0x4000 -j MARK --xor-mark 0x4001
-A M -m mark --mark 0x1/0x1 -j CONNMARK --save-mark
-A M -p icmp -j TTL --ttl-set 3
-A M -p tcp -j DSCP --set-dscp 10
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -m mark --mark 0x1
-A FORWARD -m mark --mark 0x3/0x2
-A FORWARD -m connmark --mark 0x1/0x1
-A FORWARD -m ttl --ttl-eq 2
-A FORWARD -m dscp --dscp 10
-A FORWARD -p tcp --syn -j TCPMSS --set-mss 1000
COMMIT
"""

_NAT = """*nat
:PREROUTING ACCEPT [0:0]
:S - [0:0]
:E - [0:0]
-A PREROUTING -j S
-A S -p tcp -m tcp -d 10.48.2.7 --dport 80 -j E
-A S -p udp -m udp --dport 53 -j DNAT --to-destination 10.48.2.7:5300
-A S -p icmp -j ACCEPT
-A S -p udp -j RETURN
-A E -j MARK --set-mark 5
-A E -p tcp -j DNAT --to-destination 10.48.2.7:8080
-A POSTROUTING -m mark --mark 5 -j MASQUERADE
-A POSTROUTING -p udp -j SNAT --to-source 10.48.2.1
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp --dport 443 -j NOTRACK
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate UNTRACKED
-A FORWARD -m conntrack --ctstate DNAT
-A FORWARD -m conntrack --ctorigdstport 80
-A FORWARD -m conntrack --ctreplsrcport 8080
-A FORWARD -p tcp --dport 8080
-A FORWARD -p udp --dport 5300
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"""

RULESETS: dict[str, str] = {
    "each": "*filter\n:FORWARD ACCEPT [0:0]\n" + "".join(
        f"-A FORWARD {line}\n" for line in _EACH.strip().splitlines() if "owner" not in line) + "COMMIT\n",
    "chains": _CHAINS,
    "marks": _MARKS,
    "nat": _NAT,
}
