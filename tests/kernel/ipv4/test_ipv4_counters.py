"""Which counters move where, and what the sender hears.

Every expectation here is what Linux 6.18 did in three namespaces joined by veth (client 10.1.0.2, router, server
10.2.0.2; offloads off), read with nstat after one ping; octets are left out.
"""

from __future__ import annotations

import pytest
from netlab import Lab, counters

from kubenet.kernel.dev.device import dev_set_mtu
from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_conf_write, ip_forward_write
from kubenet.kernel.ipv4.fib import RTN_BLACKHOLE, RTN_PROHIBIT, RTN_UNREACHABLE, fib_add
from kubenet.kernel.netfilter.core import DROP, FORWARD, NFPROTO_IPV4, nf_register_net_hook
from kubenet.kernel.skbuff import DropReason, SkBuff, drop
from kubenet.wire.addr import ip4

ERROR_AT_ROUTER = "IpInReceives=1 IpOutRequests=1 IpOutTransmits=1 IcmpOutMsgs=1"
ERROR_AT_CLIENT = ("IpInReceives=1 IpInDelivers=1 IpOutRequests=1 IpOutTransmits=1 IcmpInMsgs=1 IcmpOutMsgs=1 IcmpOutEchos=1")
UNANSWERED = "IpOutRequests=1 IpOutTransmits=1 IcmpOutMsgs=1 IcmpOutEchos=1"


def world() -> tuple[Lab, list]:
    lab = Lab()
    nets = list(lab.routed())
    lab.warm(nets[0], "10.2.0.2")
    return lab, nets


def check(lab: Lab, nets: list, client: str, router: str, server: str = "") -> None:
    assert [lab.moved(net) for net in nets] == [counters(client), counters(router), counters(server)]


def test_a_ping_through_a_router() -> None:
    lab, nets = world()
    assert lab.ping(nets[0], "10.2.0.2") == ["64 bytes from 10.2.0.2: ttl=63"]
    check(lab, nets,
          "IpInReceives=1 IpInDelivers=1 IpOutRequests=1 IpOutTransmits=1 IcmpInMsgs=1 IcmpInEchoReps=1 IcmpOutMsgs=1 "
          "IcmpOutEchos=1",
          "IpInReceives=2 IpForwDatagrams=2 IpOutTransmits=2",
          "IpInReceives=1 IpInDelivers=1 IpOutRequests=1 IpOutTransmits=1 IcmpInMsgs=1 IcmpInEchos=1 IcmpOutMsgs=1 "
          "IcmpOutEchoReps=1")


def test_ttl_runs_out() -> None:
    lab, nets = world()
    assert lab.ping(nets[0], "10.2.0.2", ttl=1) == ["From 10.1.0.1 Time to live exceeded"]
    check(lab, nets, ERROR_AT_CLIENT + " IcmpInTimeExcds=1", ERROR_AT_ROUTER + " IpInHdrErrors=1 IcmpOutTimeExcds=1")


def test_router_without_a_route() -> None:
    lab, nets = world()
    assert lab.ping(nets[0], "10.3.0.2") == ["From 10.1.0.1 Destination Net Unreachable"]
    check(lab, nets, ERROR_AT_CLIENT + " IcmpInDestUnreachs=1", ERROR_AT_ROUTER + " IcmpOutDestUnreachs=1 IpExtInNoRoutes=1")


def test_nobody_answers_arp_behind_the_router() -> None:
    lab, nets = world()
    assert lab.ping(nets[0], "10.2.0.99") == ["From 10.1.0.1 Destination Host Unreachable"]
    check(lab, nets, ERROR_AT_CLIENT + " IcmpInDestUnreachs=1",
          "IpInReceives=1 IpForwDatagrams=1 IpOutRequests=1 IpOutTransmits=2 IcmpOutMsgs=1 IcmpOutDestUnreachs=1")


def test_nobody_answers_arp_on_our_own_link() -> None:
    lab, nets = world()
    assert lab.ping(nets[0], "10.1.0.99") == ["From 10.1.0.2 Destination Host Unreachable"]
    check(lab, nets, "IpInReceives=1 IpInDelivers=1 IpOutRequests=2 IpOutTransmits=2 IcmpInMsgs=1 IcmpInDestUnreachs=1 "
          "IcmpOutMsgs=2 IcmpOutDestUnreachs=1 IcmpOutEchos=1", "")


def test_fragmentation_needed_teaches_the_path_mtu() -> None:
    lab, nets = world()
    dev_set_mtu(nets[1].devs["s0"], 1400)
    assert lab.ping(nets[0], "10.2.0.2", size=1400) == ["From 10.1.0.1 Frag needed and DF set (mtu = 1400)"]
    check(lab, nets, ERROR_AT_CLIENT + " IcmpInDestUnreachs=1",
          ERROR_AT_ROUTER + " IpForwDatagrams=1 IpFragFails=1 IcmpOutDestUnreachs=1")
    lab.ping(nets[0], "10.2.0.2", size=1400)  # fragmented here now; the 1,428-byte answer dies at the smaller veth end
    check(lab, nets, "IpOutRequests=1 IpFragOKs=1 IpFragCreates=2 IpOutTransmits=2 IcmpOutMsgs=1 IcmpOutEchos=1",
          "IpInReceives=2 IpForwDatagrams=2 IpOutTransmits=2",
          "IpInReceives=2 IpInDelivers=1 IpOutRequests=1 IpOutDiscards=1 IpReasmReqds=2 IpReasmOKs=1 IpOutTransmits=1 "
          "IcmpInMsgs=1 IcmpInEchos=1 IcmpOutMsgs=1 IcmpOutEchoReps=1")


def test_forward_chain_drops() -> None:
    lab, nets = world()

    def refuse(skb: SkBuff, hook: int) -> int:
        drop(skb, DropReason.NETFILTER_DROP)
        return DROP

    nf_register_net_hook(nets[1], NFPROTO_IPV4, FORWARD, 0, refuse, "test")
    assert lab.ping(nets[0], "10.2.0.2") == []
    check(lab, nets, UNANSWERED, "IpInReceives=1 IpForwDatagrams=1")


def test_a_host_does_not_forward() -> None:
    lab, nets = world()
    ip_forward_write(nets[1], 0)
    assert lab.ping(nets[0], "10.2.0.2") == []
    check(lab, nets, UNANSWERED, "IpInReceives=1 IpInAddrErrors=1")


@pytest.mark.parametrize("kind, heard", [
    (RTN_BLACKHOLE, []),
    (RTN_UNREACHABLE, ["From 10.1.0.1 Destination Host Unreachable"]),
    (RTN_PROHIBIT, ["From 10.1.0.1 Packet filtered"]),
])
def test_routes_that_refuse(kind: int, heard: list[str]) -> None:
    lab, nets = world()
    fib_add(nets[1], ip4("10.66.0.0"), 16, type=kind)
    assert lab.ping(nets[0], "10.66.0.1") == heard
    if heard:
        check(lab, nets, ERROR_AT_CLIENT + " IcmpInDestUnreachs=1", ERROR_AT_ROUTER + " IcmpOutDestUnreachs=1")
    else:
        check(lab, nets, UNANSWERED, "IpInReceives=1")


def test_reverse_path_filter() -> None:
    lab, nets = world()
    inet_conf_write(nets[1], "c0", "rp_filter", 1)
    inet_addr_add(nets[0].lo, ip4("10.77.0.1"), 32)
    assert lab.ping(nets[0], "10.2.0.2", source="10.77.0.1") == []
    check(lab, nets, UNANSWERED, "IpInReceives=1 TcpExtIPReversePathFilter=1")


def test_a_source_that_is_our_own_moves_no_counter() -> None:
    lab, nets = world()
    inet_addr_add(nets[0].lo, ip4("10.77.0.1"), 32)
    inet_addr_add(nets[1].lo, ip4("10.77.0.1"), 32)
    assert lab.ping(nets[0], "10.2.0.2", source="10.77.0.1") == []
    check(lab, nets, UNANSWERED, "IpInReceives=1")


def test_unknown_protocol() -> None:
    lab, nets = world()
    nets[0].icmp.raw_err = lab._error
    lab.got.clear()
    lab.send(nets[0], "10.2.0.2")
    assert lab.got == ["From 10.2.0.2 Destination Protocol Unreachable"]
    check(lab, nets, "IpInReceives=1 IpInDelivers=1 IpOutRequests=1 IpOutTransmits=1 IcmpInMsgs=1 IcmpInDestUnreachs=1",
          "IpInReceives=2 IpForwDatagrams=2 IpOutTransmits=2",
          "IpInReceives=1 IpInUnknownProtos=1 IpOutRequests=1 IpOutTransmits=1 IcmpOutMsgs=1 IcmpOutDestUnreachs=1")


def test_errors_to_one_target_are_limited_to_a_burst_of_six() -> None:
    """20 packets, 1 ms apart: six errors; the others count as IcmpOutRateLimitHost.

    (The kernel was asked just after another error, one token short: it sent 5 and counted 15.)
    """
    lab, nets = world()
    for _ in range(20):
        lab.send(nets[0], "10.2.0.2", wait=0.001)
    server = lab.moved(nets[2])
    assert (server["IcmpOutDestUnreachs"], server["IcmpOutRateLimitHost"]) == (6, 14)
    lab.run(1.0)
    lab.send(nets[0], "10.2.0.2", wait=0.1)
    assert lab.moved(nets[2])["IcmpOutDestUnreachs"] == 1  # one more per icmp_ratelimit (1 s)
