"""ICMP messages byte by byte, redirects, path MTU, fragments."""

from __future__ import annotations

from netlab import Lab, sniff

from kubenet.fabric.capture import skb_to_bytes
from kubenet.kernel.dev.device import dev_set_mtu
from kubenet.kernel.ipv4.af_ops import ipv4_ops
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.ipv4.fragment import ip_do_fragment
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.pmtu import ip_rt_update_pmtu
from kubenet.kernel.ipv4.route import dst_mtu, ip_route_output_key, ipv4_default_advmss
from kubenet.kernel.netfilter.conntrack import nf_ct_netns_get
from kubenet.kernel.netfilter.core import ACCEPT, NFPROTO_IPV4, PREROUTING, nf_register_net_hook
from kubenet.kernel.skbuff import ETH_P_IP
from kubenet.units import SEC
from kubenet.wire.addr import ip4
from kubenet.wire.packet import bytes_to_frame
from kubenet.wire.udp import UdpHdr


def received(recorder) -> list:
    return [skb for _, _, outgoing, skb in recorder.frames if not outgoing and skb.protocol == ETH_P_IP]


def sent(recorder) -> list:
    return [skb for _, _, outgoing, skb in recorder.frames if outgoing and skb.protocol == ETH_P_IP]


def test_an_error_quotes_548_bytes_has_tos_c0_and_no_df() -> None:
    """Observed on 6.18: a 1,028-byte packet's error is 576 bytes long, tos 0xc0, flags [none]."""
    lab = Lab()
    client, _, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    seen = sniff(client.devs["eth0"])
    lab.send(client, "10.2.0.2", size=1008)
    error, = received(seen)
    assert (error.len, error.ip.tos, error.ip.frag, error.ip.ttl) == (576, 0xC0, 0, 63)
    assert (error.l4.type, error.l4.code) == (3, 2)
    assert (error.inner.ip.ttl, error.inner.tot_len) == (63, 1028)
    frame = bytes_to_frame(skb_to_bytes(error))  # and it is a packet an independent reader understands
    assert frame.inner == error.inner


def test_time_exceeded_quotes_the_packet_as_it_came() -> None:
    """Observed on 6.18: request tos 0x28 ttl 1 -> error tos 0xc8, quoted ttl 1."""
    lab = Lab()
    client, _, _ = lab.routed()
    lab.warm(client, "10.2.0.2")
    seen = sniff(client.devs["eth0"])
    lab.ping(client, "10.2.0.2", ttl=1, tos=0x28)
    error, = received(seen)
    assert (error.ip.tos, error.inner.ip.ttl, error.len) == (0xC8, 1, 112)


def test_echo_reply_keeps_tos_id_seq_and_data_but_not_df() -> None:
    lab = Lab()
    client, _, _ = lab.routed()
    lab.warm(client, "10.2.0.2")
    seen = sniff(client.devs["eth0"])
    lab.ping(client, "10.2.0.2", tos=0x10)
    (request,), (reply,) = sent(seen), received(seen)
    assert (reply.ip.tos, reply.ip.frag, reply.ip.ttl) == (0x10, 0, 63)
    assert (reply.l4.type, reply.l4.rest, reply.payload) == (0, request.l4.rest, request.payload)


def test_no_error_about_an_error_a_fragment_or_a_broadcast() -> None:
    """RFC 1122 3.2.2: an ICMP error MUST NOT be sent as the result of an ICMP error, a non-initial fragment, a broadcast."""
    lab = Lab()
    client, router, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    lab.send(client, "10.2.0.2", frag=0x0002)  # a later fragment, TTL fine: waits for the others
    lab.send(client, "10.2.0.2", ttl=1, frag=0x0002)
    lab.send(client, "10.1.0.255")
    assert "IcmpOutMsgs" not in lab.moved(router)
    seen = sniff(client.devs["eth0"])
    lab.send(client, "10.2.0.2")  # provokes "protocol unreachable" ...
    error, = received(seen)
    error.net, error.dst, error.pkt_type = router, ip_route_output_key(router, ip4("10.2.0.2")), 0
    router.icmp.send(error, 11, 0, 0)  # ... which provokes nothing
    assert "IcmpOutMsgs" not in lab.moved(router)


def test_redirect_names_the_better_gateway_and_the_host_follows() -> None:
    """RFC 792 redirect for the host; Linux sends them with send_redirects and follows with accept_redirects."""
    lab = Lab()
    node, bridge, (a, b) = lab.bridged()
    inet_addr_add(b.lo, ip4("10.50.0.1"), 32)
    fib_add(node, ip4("10.50.0.0"), 16, gateway=ip4("10.48.1.6"))
    seen = sniff(a.devs["eth0"])
    assert lab.ping(a, "10.50.0.1", wait=0.5) == ["64 bytes from 10.50.0.1: ttl=64"]
    redirect = next(skb for skb in received(seen) if skb.l4.type == 5)
    assert (redirect.l4.code, redirect.l4.rest) == (1, ip4("10.48.1.6"))
    assert ip_route_output_key(a, ip4("10.50.0.1")).nexthop == ip4("10.48.1.6")
    lab.moved(node)
    lab.ping(a, "10.50.0.1", wait=0.5)
    assert lab.moved(node) == {}


def test_path_mtu_is_kept_ten_minutes_and_never_below_552() -> None:
    """route.mtu_expires 600, route.min_pmtu 552; below it the value is locked and DF is not set (observed on 6.18)."""
    lab = Lab()
    client, _, _ = lab.routed()
    dst = ip_route_output_key(client, ip4("10.2.0.2"))
    assert (dst_mtu(dst), ipv4_default_advmss(dst)) == (1500, 1460)
    ip_rt_update_pmtu(client, dst, ip4("10.2.0.2"), 1400)
    dst = ip_route_output_key(client, ip4("10.2.0.2"))
    assert (dst_mtu(dst), dst_mtu(ip_route_output_key(client, ip4("10.2.0.3")))) == (1400, 1500)
    lab.run(601)
    assert dst_mtu(ip_route_output_key(client, ip4("10.2.0.2"))) == 1500
    dst = ip_route_output_key(client, ip4("10.2.0.2"))
    ip_rt_update_pmtu(client, dst, ip4("10.2.0.2"), 68)
    dst = ip_route_output_key(client, ip4("10.2.0.2"))
    assert (dst_mtu(dst), dst.mtu_locked, dst.expires) == (552, True, lab.loop.now + 600 * SEC)


def test_mss_on_loopback_is_65495() -> None:
    """65535 - 40: an IP packet is never larger, whatever lo's MTU says."""
    lab = Lab()
    assert ipv4_default_advmss(ip_route_output_key(lab.root, ip4("127.0.0.1"))) == 65495


def test_a_datagram_of_4008_bytes_crosses_in_three_pieces() -> None:
    """RFC 791 3.2: offsets in units of 8 bytes, MF on all but the last, one id; ports are in the first only."""
    lab = Lab()
    client, _, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    got = []
    server.inet_protos[17] = (got.append, None)
    seen = sniff(server.devs["eth0"])
    data = bytes(k % 251 for k in range(4000))
    dst = ip_route_output_key(client, ip4("10.2.0.2"))
    ipv4_ops.send_datagram(client, None, dst.prefsrc, ip4("10.2.0.2"), 17, UdpHdr(1000, 53), data, dst, 0, 0, True)
    lab.run(1)
    pieces = [(skb.len, skb.ip.frag, skb.l4) for skb in received(seen)]
    assert pieces == [(1500, 0x2000, None), (1500, 0x2000 | 185, None), (1068, 370, None)]
    assert len({skb.ip.id for skb in received(seen)}) == 1
    whole, = got
    assert (whole.l4, bytes(whole.payload), whole.len, whole.plen) == (UdpHdr(1000, 53), data, 4028, 4000)


def test_pieces_in_any_order_and_twice() -> None:
    """RFC 815: any order; a piece that comes twice costs nothing."""
    lab = Lab()
    client, router, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    got = []
    server.inet_protos[253] = (got.append, None)
    pieces = ip_do_fragment(lab.datagram(client, "10.2.0.2", size=3000, frag=0), 1500)
    for piece in (pieces[2], pieces[0], pieces[0].clone(), pieces[1]):
        ip_local_out(piece)
    lab.run(1)
    assert [skb.plen for skb in got] == [3000]
    assert lab.moved(server)["IpReasmReqds"] == 4


def test_overlapping_pieces_drop_the_datagram() -> None:
    """Linux since 4.20 treats IPv4 as RFC 5722 treats IPv6."""
    lab = Lab()
    client, _, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    pieces = ip_do_fragment(lab.datagram(client, "10.2.0.2", size=3000, frag=0), 1500)
    pieces[1].ip.frag -= 1
    for piece in pieces:
        ip_local_out(piece)
    lab.run(1)
    moved = lab.moved(server)
    assert moved["IpExtReasmOverlaps"] == 1 and moved["IpReasmFails"] == 1 and "IpReasmOKs" not in moved


def test_a_missing_piece_is_reported_after_thirty_seconds() -> None:
    """ipfrag_time 30 s; RFC 792 time exceeded code 1, only if the first piece came."""
    lab = Lab()
    client, _, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    client.icmp.raw_err = lab._error
    for keep in (slice(0, 1), slice(1, None)):
        lab.got.clear()
        for piece in ip_do_fragment(lab.datagram(client, "10.2.0.2", size=3000, frag=0), 1500)[keep]:
            ip_local_out(piece)
        lab.run(29.9)
        assert lab.got == []
        lab.run(0.2)
        assert lab.got == (["From 10.2.0.2 Frag reassembly time exceeded"] if keep.start == 0 else [])
        moved = lab.moved(server)
        assert (moved["IpReasmTimeout"], moved["IpReasmFails"]) == (1, 1)
    assert server.frags.mem == 0 and not server.frags.queues


def test_fragments_are_forwarded_as_they_are_and_cut_again_where_the_link_is_smaller() -> None:
    lab = Lab()
    client, router, server = lab.routed()
    lab.warm(client, "10.2.0.2")
    dev_set_mtu(router.devs["s0"], 600)
    seen = sniff(router.devs["s0"])
    lab.send(client, "10.2.0.2", size=2000, frag=0)
    out = [(skb.ip.frag & 0x1FFF) * 8 for skb in sent(seen)]
    assert out == [0, 576, 1152, 1480]
    assert len(received(seen)) == 1  # the server's "protocol unreachable" for the whole


def test_where_connections_are_tracked_rules_see_whole_packets_and_the_next_link_the_same_pieces() -> None:
    """nf_defrag_ipv4 before PREROUTING; frag_max_size: a packet of 1,000-byte pieces leaves in such pieces, also over a bridge."""
    for bridged in (False, True):
        lab = Lab()
        if bridged:
            node, _, (client, server) = lab.bridged(br_netfilter=True)
            dst, out = "10.48.1.6", node.devs["veth6"]
        else:
            client, node, server = lab.routed()
            dst, out = "10.2.0.2", node.devs["s0"]
        lab.warm(client, dst)
        nf_ct_netns_get(node)
        whole = []
        nf_register_net_hook(node, NFPROTO_IPV4, PREROUTING, 0, lambda skb, hook, w=whole: w.append(skb.len) or ACCEPT, "spy")
        seen = sniff(out)
        for piece in ip_do_fragment(lab.datagram(client, dst, size=3000, frag=0), 1000):
            ip_local_out(piece)
        lab.run(0.1)
        assert whole[0] == 3020
        assert [(skb.len, (skb.ip.frag & 0x1FFF) * 8) for skb in sent(seen)] == [(996, 0), (996, 976), (996, 1952), (92, 2928)]
        assert lab.moved(server)["IpReasmOKs"] == 1
        assert (node.frags.mem, node.snmp["IpReasmOKs"]) == (0, 1)
