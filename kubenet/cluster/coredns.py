"""CoreDNS as an image: a native program on UDP and TCP port 53 that answers from the store (dns.py), and over HTTP 8080/health,
8181/ready and 9153/metrics.

It serves until it is terminated. Questions for other zones are SERVFAIL: there is no resolver behind this cluster.

simplified: the real one learns from the API server over the network; this one reads the store, which the cluster leaves in
host.extra["store"]; of the metrics there are the counts of requests and responses. Source: CoreDNS's kubernetes, health, ready,
prometheus and errors plugins as kubeadm configures them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kubenet.cluster.dns import ClusterDns
from kubenet.userland.images import image
from kubenet.userland.images.httpserver import Request, Response, Server
from kubenet.userland.process import Process
from kubenet.wire.dns import SERVFAIL, DnsMessage, build_dns, parse_dns
from kubenet.wire.errors import WireError

PORT = 53
POLLIN = 1
AF_INET, SOCK_STREAM, SOCK_DGRAM, SOL_SOCKET, SO_REUSEADDR = 2, 1, 2, 1, 2
UDP_SIZE = 512
PATHS = {8080: "/health", 8181: "/ready", 9153: "/metrics"}
TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 255: "ANY"}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
HELP = {"coredns_dns_requests_total": "Counter of DNS requests made per zone, protocol and family.",
        "coredns_dns_responses_total": "Counter of response status codes."}
TEXT = ("Content-Type", "text/plain; charset=utf-8")

Counts = dict[str, int]


@image("coredns/coredns:v1.11.3", ports=[PORT, 9153])
def main(proc: Process, argv: list[str]) -> int:
    """Answer for ever."""
    host = proc.net.host
    dns = ClusterDns(host.extra["store"], host.extra.get("cluster_domain", "cluster.local"))
    sys = proc.sys
    udp, tcp = sys.socket(AF_INET, SOCK_DGRAM), sys.socket(AF_INET, SOCK_STREAM)
    sys.setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, 1)
    for fd in (udp, tcp):
        sys.bind(fd, ("0.0.0.0", PORT))
    sys.listen(tcp, 128)
    counts: Counts = {}
    web = Server(proc, partial(_http, counts))
    for port in PATHS:
        web.listen(port)
    web.start()
    proc.out(f".:{PORT}\nCoreDNS-1.11.3\nlinux/amd64, kubenet\n")
    connections: dict[int, bytearray] = {}
    while True:
        for fd, _ in sys.poll([(udp, POLLIN), (tcp, POLLIN), *((c, POLLIN) for c in connections)]):
            if fd == udp:
                _datagram(sys, dns, udp, counts)
            elif fd == tcp:
                connections[sys.accept(tcp)[0]] = bytearray()
            elif not _stream(sys, dns, fd, connections[fd], counts):
                sys.close(fd)
                del connections[fd]


def _datagram(sys: Any, dns: ClusterDns, fd: int, counts: Counts) -> None:
    """One question, one answer; an answer that does not fit is cut and says so (TC)."""
    try:
        data, client = sys.recvfrom(fd, 65535)
        query = parse_dns(data)
    except (OSError, WireError):
        return
    reply = resolve(dns, query)
    _count(counts, "udp", query, reply)
    try:
        sys.sendto(fd, build_dns(reply, max(query.edns_size, UDP_SIZE)), client)
    except OSError:
        pass  # the client is gone; it will ask again or not


def _stream(sys: Any, dns: ClusterDns, fd: int, buffer: bytearray, counts: Counts) -> bool:
    """RFC 7766: messages with their length in front. False when the connection is over."""
    try:
        data = sys.recv(fd, 65535)
        if not data:
            return False
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
            length = int.from_bytes(buffer[:2], "big")
            query = parse_dns(bytes(buffer[2 : 2 + length]))
            reply = resolve(dns, query)
            _count(counts, "tcp", query, reply)
            message = build_dns(reply)
            del buffer[: 2 + length]
            sys.send_all(fd, len(message).to_bytes(2, "big") + message)
    except (OSError, WireError):
        return False
    return True


def _count(counts: Counts, proto: str, query: DnsMessage, reply: DnsMessage) -> None:
    """Plugin prometheus: coredns_dns_requests_total, coredns_dns_responses_total."""
    type_ = TYPES.get(query.question[0].type, "other") if query.question else "other"
    zone = "." if reply.rcode == SERVFAIL else "cluster.local."
    server, where = f'server="dns://:{PORT}"', f'view="",zone="{zone}"'
    rcode = RCODES.get(reply.rcode, str(reply.rcode))
    for line in (f'coredns_dns_requests_total{{family="1",proto="{proto}",{server},type="{type_}",{where}}}',
                 f'coredns_dns_responses_total{{plugin="kubernetes",rcode="{rcode}",{server},{where}}}'):
        counts[line] = counts.get(line, 0) + 1


def _http(counts: Counts, request: Request) -> Response:
    """What the plugins health, ready and prometheus answer."""
    if request.path != PATHS[request.local[1]]:
        return Response(404, b"404 page not found\n", [TEXT, ("X-Content-Type-Options", "nosniff")])
    if request.path != "/metrics":
        return Response(200, b"OK", [TEXT])
    lines, last = [], ""
    for name in sorted(counts):
        family = name.partition("{")[0]
        if family != last:
            lines += [f"# HELP {family} {HELP[family]}", f"# TYPE {family} counter"]
            last = family
        lines.append(f"{name} {counts[name]}")
    return Response(200, "".join(line + "\n" for line in lines).encode(), [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")])


def resolve(dns: ClusterDns, query: DnsMessage) -> DnsMessage:
    """The cluster's answer, or SERVFAIL for names that are not the cluster's."""
    answer = dns.answer(query)
    if answer is not None:
        return answer
    return DnsMessage(query.id, qr=True, rd=query.rd, rcode=SERVFAIL, question=query.question)
