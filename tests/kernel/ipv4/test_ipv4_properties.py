"""Properties: any datagram in any pieces in any order is the datagram; the FIB agrees with reading the routes one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from netlab import Lab

from kubenet.kernel.ipv4.fib import Flow, fib_add, fib_lookup
from kubenet.kernel.ipv4.fragment import IP_DEFRAG_LOCAL_DELIVER, ip_defrag, ip_do_fragment
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.wire.addr import ip4
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.udp import UdpHdr


@settings(max_examples=150, deadline=None)
@given(size=st.integers(0, 6000), mtu=st.integers(68, 1500), again=st.integers(68, 1500), random=st.randoms(use_true_random=False))
def test_fragments_reassemble(size: int, mtu: int, again: int, random) -> None:
    """Cut twice on the way (RFC 791 3.2: a fragment may be fragmented), shuffled, some twice."""
    net = Lab().root
    data = random.randbytes(size)
    skb = SkBuff(net, ETH_P_IP, IpHdr(1 << 24 | 1, 2 << 24 | 2, 17, 5, 0), UdpHdr(1, 2), data, size, 28 + size)
    pieces = []
    for piece in ip_do_fragment(skb, mtu):
        pieces += ip_do_fragment(piece, again) if piece.len > again else [piece]
    assert all(piece.len <= max(mtu, again) for piece in pieces)
    pieces = [p for p in pieces if p.ip.frag & 0x3FFF]
    if not pieces:
        return  # it fitted
    last = pieces.pop(random.randrange(len(pieces)))
    pieces += [p.clone() for p in random.sample(pieces, min(2, len(pieces)))]
    random.shuffle(pieces)
    results = [ip_defrag(piece, IP_DEFRAG_LOCAL_DELIVER) for piece in [*pieces, last]]
    whole = [r for r in results if r is not None]
    assert len(whole) == 1 and results[-1] is whole[0]
    assert (whole[0].l4, bytes(whole[0].payload), whole[0].len) == (UdpHdr(1, 2), data, 28 + size)
    assert net.frags.mem == 0


ROUTES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 32), st.integers(0, 3)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(routes=ROUTES, asked=st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=10))
def test_the_longest_prefix_and_lowest_metric_win(routes: list[tuple[int, int, int]], asked: list[int]) -> None:
    lab = Lab()
    a, b = lab.ns("a"), lab.ns("b")
    eth0, _ = lab.cable(a, "eth0", "10.9.0.1/24", b, "eth0", "10.9.0.2/24")
    known = [(ip4("10.9.0.0"), 24, 0)]
    for base, plen, metric in routes:
        prefix = (base << 29 | 0x0A090000) >> 32 - plen << 32 - plen
        if (prefix, plen, metric) not in known:
            fib_add(a, prefix, plen, dev=eth0, metric=metric)
            known.append((prefix, plen, metric))
    for addr in [*asked, *(p for p, _, _ in known)]:
        if addr >> 24 == 127 or addr in (ip4("10.9.0.1"), ip4("10.9.0.255")):
            continue  # the local table's
        fits = [(-plen, metric) for prefix, plen, metric in known if (addr ^ prefix) >> 32 - plen == 0]
        found = fib_lookup(a, Flow(addr))
        assert (found is None) == (not fits)
        if found is not None:
            assert (-found.plen, found.metric) == min(fits)
