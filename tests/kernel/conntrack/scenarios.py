"""The scenarios record.py plays to a real kernel. The cast: client 10.48.1.5, web-0 10.48.2.7, Service web 10.96.0.1:80."""

from __future__ import annotations

from typing import Any

CLIENT, SERVER, SERVICE = "10.48.1.5", "10.48.2.7", "10.96.0.1"
SYN = {"wscale": 10, "sack_perm": 1, "mss": 1460}
WEB = {"chain": "PREROUTING", "dst": SERVICE, "dport": 80, "to": "10.48.2.7:8080"}
DNS = {"chain": "PREROUTING", "proto": "udp", "dst": SERVICE, "dport": 53, "to": "10.48.2.7:5353"}
MASQ = {"chain": "POSTROUTING", "proto": "all", "out": "tun1", "to": "masquerade"}


def c(flags: str, seq: int, ack: int = 0, **more: Any) -> dict[str, Any]:
    """A segment from the client to the server."""
    return {"from": "client", "src": CLIENT, "sport": 40000, "dst": SERVER, "dport": 80, "flags": flags, "seq": seq,
            "ack": ack, **more}


def s(flags: str, seq: int, ack: int = 0, **more: Any) -> dict[str, Any]:
    """A segment from the server to the client."""
    return {"from": "server", "src": SERVER, "sport": 80, "dst": CLIENT, "dport": 40000, "flags": flags, "seq": seq,
            "ack": ack, **more}


def udp(side: str, src: str, sport: int, dst: str, dport: int, **more: Any) -> dict[str, Any]:
    return {"from": side, "proto": "udp", "src": src, "sport": sport, "dst": dst, "dport": dport, "len": 10, **more}


def icmp(side: str, src: str, dst: str, kind: int, **more: Any) -> dict[str, Any]:
    return {"from": side, "proto": "icmp", "src": src, "dst": dst, "type": kind, **more}


def quote(packet: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**{k: v for k, v in packet.items() if k not in ("from", "wait")}, **more}


OPEN = [c("S", 1000, **SYN), s("SA", 5000, 1001, **SYN), c("A", 1001, 5001, win=63)]
VIA = {"dst": SERVICE}
POD = {"sport": 8080}


SCENARIOS: list[dict[str, Any]] = [
    {"name": "tcp_life", "why": "open, data, close by the client", "packets": [
        *OPEN, c("PA", 1001, 5001, len=100), s("A", 5001, 1101), s("PA", 5001, 1101, len=1448), c("A", 1101, 6449),
        c("FA", 1101, 6449), s("A", 6449, 1102), s("FA", 6449, 1102), c("A", 1102, 6450)]},
    {"name": "tcp_rst_answers_syn", "why": "a RST that answers the first SYN removes the entry at once",
     "packets": [c("S", 1000, **SYN), c("S", 1000, **SYN), s("RA", 0, 1001)]},
    {"name": "tcp_syn_retransmit", "why": "repeated SYNs do not keep an entry alive",
     "packets": [c("S", 1000, **SYN), c("S", 1000, wait=2.1, **SYN)]},
    {"name": "tcp_out_of_window", "why": "beyond the window: INVALID; below: let through, so that it is acknowledged again",
     "packets": [*OPEN, s("A", 5001 + (63 << 10) + 1, 1001, len=10), s("PA", 5001, 1001, len=10), c("A", 1001, 5011, win=63),
                 s("PA", 5001, 1001, len=10), c("A", 900000, 5011), c("A", 1001, 900000)]},
    {"name": "tcp_be_liberal", "sysctl": {"nf_conntrack_tcp_be_liberal": 1},
     "packets": [*OPEN, s("A", 5001 + (63 << 10) + 1, 1001, len=10), c("A", 900000, 5011), s("R", 7777777, 0)]},
    {"name": "tcp_pickup", "why": "an entry lost in mid-flow is picked up, 300 s and UNREPLIED until an answer",
     "packets": [c("PA", 1001, 5001, len=10), c("PA", 1011, 5001, len=10), s("A", 5001, 1021), c("A", 1021, 5001)]},
    {"name": "tcp_pickup_reuse", "why": "a port used again over a picked-up entry: the server's side stays unchecked",
     "packets": [c("PA", 1001, 5001, len=8), c("S", 1000, **SYN), s("SA", 5000, 1001, **SYN), s("A", 5001, 900000),
                 c("A", 70000000, 5001), c("A", 1001, 5001)]},
    {"name": "tcp_no_loose", "sysctl": {"nf_conntrack_tcp_loose": 0}, "packets": [c("PA", 1001, 5001, len=10), *OPEN]},
    {"name": "tcp_rst_exact", "why": "only the exact sequence number closes",
     "packets": [*OPEN, s("PA", 5001, 1001, len=10), c("A", 1001, 5011), s("R", 4000, 0), s("R", 5020, 0), s("R", 5011, 0)]},
    {"name": "tcp_rst_inexact_after_fin", "why": "once a FIN was seen any RST in the window closes",
     "packets": [*OPEN, c("FA", 1001, 5001), s("A", 5001, 1002), s("R", 5050, 0), c("R", 1002, 0)]},
    {"name": "tcp_syn_challenge_ack", "why": "an old server answers the SYN with a challenge ACK; our RST clears it",
     "packets": [c("S", 1000, **SYN), s("A", 777, 888), c("R", 888, 0), c("S", 1000, **SYN), s("SA", 5000, 1001, **SYN),
                 c("A", 1001, 5001)]},
    {"name": "tcp_old_synack", "why": "a SYN-ACK of an older incarnation does not poison the windows",
     "packets": [c("S", 1000, **SYN), s("SA", 90000, 777, **SYN), c("R", 777, 0), c("S", 1000, **SYN),
                 s("SA", 5000, 1001, **SYN), c("A", 1001, 5001), s("PA", 5001, 1001, len=100)]},
    {"name": "tcp_port_reuse", "why": "a SYN over an open entry: passes, and the SYN-ACK to it puts the entry in step",
     "packets": [*OPEN, c("S", 700000, **SYN), s("A", 5001, 1001), c("R", 1001, 0), c("S", 700000, **SYN),
                 s("SA", 800000, 700001, **SYN), c("A", 700001, 800001)]},
    {"name": "tcp_reopen_time_wait", "packets": [
        *OPEN, c("FA", 1001, 5001), s("FA", 5001, 1002), c("A", 1002, 5002), c("S", 9000, **SYN), s("SA", 20000, 9001, **SYN),
        c("A", 9001, 20001)]},
    {"name": "tcp_simultaneous_open", "packets": [
        c("S", 1000, **SYN), s("S", 5000, **SYN), c("SA", 1000, 5001, **SYN), s("SA", 5000, 1001, **SYN), c("A", 1001, 5001)]},
    {"name": "tcp_bad_flags", "packets": [c("SF", 1000), c("", 1000), c("SR", 1000), c("FAPU", 1000), c("F", 1000)]},
    {"name": "tcp_retrans", "why": "three equal ACKs in a row: 300 s", "packets": [
        *OPEN, *[c("A", 1001, 5001, win=63)] * 5, s("PA", 5001, 1001, len=5), c("A", 1001, 5006)]},
    {"name": "tcp_zero_window", "packets": [*OPEN, c("A", 1001, 5001, win=0), s("A", 5001, 1001), c("A", 1001, 5001, win=9)]},
    {"name": "tcp_acct", "sysctl": {"nf_conntrack_acct": 1}, "packets": [*OPEN, c("PA", 1001, 5001, len=100)]},
    {"name": "udp_stream", "why": "ASSURED and 120 s only if traffic goes on after 2 s", "packets": [
        udp("client", CLIENT, 5000, SERVER, 53), udp("server", SERVER, 53, CLIENT, 5000),
        udp("client", CLIENT, 5000, SERVER, 53),
        udp("client", CLIENT, 5000, SERVER, 53, wait=2.2), udp("server", SERVER, 53, CLIENT, 5000)]},
    {"name": "icmp_echo", "packets": [
        icmp("client", CLIENT, SERVER, 8, id=77), icmp("server", SERVER, CLIENT, 0, id=77), icmp("server", SERVER, CLIENT, 0, id=9),
        icmp("server", SERVER, CLIENT, 8, id=77), icmp("client", CLIENT, SERVER, 13, id=3), icmp("client", CLIENT, SERVER, 40)]},
    {"name": "icmp_error", "why": "RELATED if it quotes a known packet and goes to its sender, else INVALID", "packets": [
        *OPEN, icmp("server", "10.48.2.9", CLIENT, 3, code=4, rest=1400, quote=quote(c("PA", 1001, 5001, len=8))),
        icmp("server", "10.48.2.9", CLIENT, 3, code=1, quote=quote(c("PA", 1001, 5001, len=8), dport=81)),
        icmp("server", "10.48.2.9", "10.48.1.6", 3, code=1, quote=quote(c("PA", 1001, 5001, len=8)))]},
    {"name": "generic", "packets": [{"from": "client", "proto": 99, "src": CLIENT, "dst": SERVER, "len": 8},
                                    {"from": "server", "proto": 99, "src": SERVER, "dst": CLIENT, "len": 8}]},
    # nat
    {"name": "nat_dnat", "rules": [WEB], "packets": [
        c("S", 1000, **SYN, **VIA), s("SA", 5000, 1001, **SYN, **POD), c("A", 1001, 5001, **VIA), s("A", 99999999, 1001, **POD),
        c("FA", 1001, 5001, **VIA), s("FA", 5001, 1002, **POD), c("A", 1002, 5002, **VIA)]},
    {"name": "nat_dnat_udp", "rules": [DNS], "packets": [
        udp("client", CLIENT, 5000, SERVICE, 53), udp("server", SERVER, 5353, CLIENT, 5000),
        udp("client", CLIENT, 5000, SERVER, 5353)]},
    {"name": "nat_masquerade", "rules": [MASQ], "packets": [
        c("S", 1000, **SYN), s("SA", 5000, 1001, dst="10.48.2.1", **SYN), c("A", 1001, 5001),
        udp("client", CLIENT, 5000, SERVER, 53), udp("server", SERVER, 53, "10.48.2.1", 5000),
        icmp("client", CLIENT, SERVER, 8, id=77), icmp("server", SERVER, "10.48.2.1", 0, id=77)]},
    {"name": "nat_both", "rules": [WEB, MASQ], "packets": [
        c("S", 1000, **SYN, **VIA), s("SA", 5000, 1001, dst="10.48.2.1", **SYN, **POD), c("A", 1001, 5001, **VIA)]},
    {"name": "nat_icmp_error", "rules": [WEB, MASQ], "why": "an error is changed outside and inside", "packets": [
        c("S", 1000, **SYN, **VIA), s("SA", 5000, 1001, dst="10.48.2.1", **SYN, **POD), c("A", 1001, 5001, **VIA),
        icmp("server", "10.48.2.9", "10.48.2.1", 3, code=4, rest=1400,
             quote=quote(c("PA", 1001, 5001, len=8), src="10.48.2.1", dport=8080)),
        icmp("client", "10.48.1.9", SERVICE, 11, quote=quote(s("A", 5001, 1001, len=8), src=SERVICE)),
        icmp("client", CLIENT, SERVER, 8, id=77), icmp("server", "10.48.2.9", "10.48.2.1", 3, code=1,
             quote=quote(icmp("client", "10.48.2.1", SERVER, 8, id=77)))]},
    {"name": "nat_dnat_icmp_error", "rules": [WEB], "packets": [
        c("S", 1000, **SYN, **VIA), s("SA", 5000, 1001, **SYN, **POD), c("A", 1001, 5001, **VIA),
        icmp("server", "10.48.2.9", CLIENT, 3, code=4, rest=1400, quote=quote(c("PA", 1001, 5001, len=8), dport=8080))]},
    {"name": "nat_snat_range", "rules": [{"chain": "POSTROUTING", "out": "tun1", "to": "10.9.0.10-10.9.0.29"}],
     "why": "the address is a hash of source and destination", "packets": [
        c("S", 1, src=f"10.48.1.{10 + i}", sport=40000 + i, dst=f"10.48.2.{7 + i % 3}") for i in range(12)]},
    {"name": "nat_snat_ports", "rules": [{"chain": "POSTROUTING", "out": "tun1", "to": "10.9.0.1:2000-2000"}],
     "why": "one port: a second connection to the same server cannot be confirmed", "packets": [
        c("S", 1000), c("S", 1000, src="10.48.1.6"), c("S", 1000, src="10.48.1.6", dport=81)]},
    {"name": "nat_src_reuse", "rules": [{"chain": "POSTROUTING", "out": "tun1", "to": "10.9.0.10-10.9.0.29"}],
     "why": "a source that is mapped already keeps its mapping towards others", "packets": [
        c("S", 1000), c("S", 1000, dst="10.48.2.8"), c("S", 1000, dst="10.48.2.9", dport=443)]},
    {"name": "nat_masquerade_clash", "rules": [MASQ], "why": "a taken source port becomes another of its class", "packets": [
        c("S", 1000), c("S", 1000, src="10.48.1.6"), c("S", 1000, src="10.48.1.7", sport=700),
        c("S", 1000, src="10.48.1.8", sport=700), c("S", 1000, src="10.48.1.7", sport=99),
        c("S", 1000, src="10.48.1.8", sport=99), icmp("client", CLIENT, SERVER, 8, id=77),
        icmp("client", "10.48.1.6", SERVER, 8, id=77)]},
    {"name": "nat_null_binding_clash", "rules": [WEB],
     "why": "a source that collides with a translated connection gets another port although no rule asks for it", "packets": [
        c("S", 1000, **VIA), c("S", 1000, dport=8080)]},
    {"name": "nat_dnat_range", "rules": [{"chain": "PREROUTING", "dst": SERVICE, "dport": 80, "to": "10.48.2.10-10.48.2.29"}],
     "packets": [c("S", 1000 + i, src=f"10.48.1.{5 + i}", **VIA) for i in range(8)]},
]
