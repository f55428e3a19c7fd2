"""CoreDNS as an image: a native program on UDP and TCP port 53 that answers from the store (dns.py).

It serves until it is terminated. Questions for other zones are SERVFAIL: there is no resolver behind this cluster.

simplified: the real one learns from the API server over the network; this one reads the store, which the cluster leaves in
host.extra["store"]. Source: CoreDNS's kubernetes, health and errors plugins as kubeadm configures them.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.dns import ClusterDns
from kubenet.userland.images import image
from kubenet.userland.process import Process
from kubenet.wire.dns import SERVFAIL, DnsMessage, build_dns, parse_dns
from kubenet.wire.errors import WireError

PORT = 53
POLLIN = 1
AF_INET, SOCK_STREAM, SOCK_DGRAM, SOL_SOCKET, SO_REUSEADDR = 2, 1, 2, 1, 2
UDP_SIZE = 512


@image("coredns/coredns:v1.11.3", ports=[PORT])
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
    proc.out(f".:{PORT}\nCoreDNS-1.11.3\nlinux/amd64, kubenet\n")
    connections: dict[int, bytearray] = {}
    while True:
        for fd, _ in sys.poll([(udp, POLLIN), (tcp, POLLIN), *((c, POLLIN) for c in connections)]):
            if fd == udp:
                _datagram(sys, dns, udp)
            elif fd == tcp:
                connections[sys.accept(tcp)[0]] = bytearray()
            elif not _stream(sys, dns, fd, connections[fd]):
                sys.close(fd)
                del connections[fd]


def _datagram(sys: Any, dns: ClusterDns, fd: int) -> None:
    """One question, one answer; an answer that does not fit is cut and says so (TC)."""
    try:
        data, client = sys.recvfrom(fd, 65535)
        query = parse_dns(data)
    except (OSError, WireError):
        return
    reply = resolve(dns, query)
    try:
        sys.sendto(fd, build_dns(reply, max(query.edns_size, UDP_SIZE)), client)
    except OSError:
        pass  # the client is gone; it will ask again or not


def _stream(sys: Any, dns: ClusterDns, fd: int, buffer: bytearray) -> bool:
    """RFC 7766: messages with their length in front. False when the connection is over."""
    try:
        data = sys.recv(fd, 65535)
        if not data:
            return False
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
            length = int.from_bytes(buffer[:2], "big")
            message = build_dns(resolve(dns, parse_dns(bytes(buffer[2 : 2 + length]))))
            del buffer[: 2 + length]
            sys.send_all(fd, len(message).to_bytes(2, "big") + message)
    except (OSError, WireError):
        return False
    return True


def resolve(dns: ClusterDns, query: DnsMessage) -> DnsMessage:
    """The cluster's answer, or SERVFAIL for names that are not the cluster's."""
    answer = dns.answer(query)
    if answer is not None:
        return answer
    return DnsMessage(query.id, qr=True, rd=query.rd, rcode=SERVFAIL, question=query.question)
