"""A UDP socket and a path that is narrower than its first link. RFC 1191; Linux: __udp4_lib_err(), ipv4_sk_update_pmtu(), ip(7)."""

from __future__ import annotations

import pytest
from netlab import Lab

from kubenet.kernel.dev.device import dev_set_mtu
from kubenet.kernel.ipv4.route import dst_mtu, ip_route_output_key
from kubenet.kernel.socket.inet import inet_bind, sock_create
from kubenet.wire.addr import ip4

SERVER = ip4("10.2.0.2")


@pytest.mark.parametrize("pmtudisc, after", [(1, 1300), (2, 1300)])  # IP_PMTUDISC_WANT, DO
def test_fragmentation_needed_makes_the_routes_mtu_smaller(pmtudisc: int, after: int) -> None:
    """The first datagram with DF is lost; the route to its destination then has the MTU that the router named, and the next one is sent
    in pieces (WANT) or refused with EMSGSIZE (DO)."""
    lab = Lab()
    client, router, server = lab.routed()
    dev_set_mtu(router.devs["s0"], 1300)
    sk = sock_create(client, 2, 2, 17)
    inet_bind(sk, (0, 5000))
    sk.pmtudisc = pmtudisc
    sk.prot.sendmsg(sk, bytes(1400), 0, (SERVER, 9), 0)
    lab.run(1)
    assert client.snmp["IcmpInDestUnreachs"] == 1
    assert dst_mtu(ip_route_output_key(client, SERVER)) == after
    if pmtudisc == 2:
        with pytest.raises(OSError, match="Message too long"):
            sk.prot.sendmsg(sk, bytes(1400), 0, (SERVER, 9), 0)
    else:
        sk.prot.sendmsg(sk, bytes(1400), 0, (SERVER, 9), 0)
        lab.run(1)
        assert client.snmp["IpFragCreates"] == 2 and server.snmp["UdpNoPorts"] == 1
