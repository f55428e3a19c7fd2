"""What ICMP teaches about a destination: a smaller path MTU, a better gateway.

ip_rt_update_pmtu() notes that packets to `daddr` must not be larger than `mtu` for mtu_expires (600 s); every cached
route is asked again, so sockets see it at their next packet. Below min_pmtu (552) the value is min_pmtu and locked: DF
is not set any more. ip_do_redirect() notes another gateway, if the one in use said so and the new one is a neighbour.

TCP calls ipv4_sk_update_pmtu() from its error handler (af_ops.local_mtu_reduced); UDP, ping and raw call
ipv4_update_pmtu(). Sources: RFC 1191, RFC 1122 3.2.2.2; Linux net/ipv4/route.c ip_rt_update_pmtu(),
__ip_do_redirect().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.ipv4.route import (
    AF_INET,
    RTN_UNICAST,
    Dst,
    FibException,
    dst_mtu,
    inet_addr_onlink,
    inet_addr_type,
    ip_route_output_key,
    max_conf,
    rt_cache_flush,
)
from kubenet.units import SEC

if TYPE_CHECKING:
    from kubenet.kernel.dev.device import NetDevice
    from kubenet.kernel.netns import NetNamespace

REDIRECT_TIMEOUT = 300 * SEC  # ip_rt_gc_timeout


def update_or_create_fnhe(net: NetNamespace, daddr: int, gateway: int, mtu: int, locked: bool, expires: int) -> None:
    """The exception for `daddr` says so, and nobody goes on with an older answer. Linux: update_or_create_fnhe()."""
    exceptions = net.pmtu.setdefault(AF_INET, {})
    found = exceptions.get(daddr)
    if found is None:
        found = exceptions[daddr] = FibException(expires)
    if gateway:
        found.gateway = gateway
    if mtu:
        found.mtu, found.mtu_locked = mtu, locked
    found.expires = max(1, expires)
    rt_cache_flush(net)


def ip_rt_update_pmtu(net: NetNamespace, dst: Dst, daddr: int, mtu: int) -> None:
    """Packets to daddr are at most `mtu` bytes for the next mtu_expires. Linux: __ip_rt_update_pmtu()."""
    if dst.route is not None and dst.route.mtu_lock:
        return
    old = dst_mtu(dst)
    if old < mtu:
        return
    locked = False
    floor = net.sysctl.route.min_pmtu
    if mtu < floor:
        locked, mtu = True, min(old, floor)
    now, keep = net.loop.now, net.sysctl.route.mtu_expires * SEC
    if dst.pmtu == mtu and not locked and now < dst.expires - keep // 2:
        return
    update_or_create_fnhe(net, daddr, 0, mtu, locked, now + keep)


def ipv4_update_pmtu(net: NetNamespace, daddr: int, mtu: int, saddr: int = 0, oif: int = 0, mark: int = 0) -> None:
    """The same, from the header quoted in a "fragmentation needed". Linux: ipv4_update_pmtu()."""
    try:
        dst = ip_route_output_key(net, daddr, saddr if inet_addr_type(net, saddr) == 2 else 0, oif, mark)
    except OSError:
        return
    ip_rt_update_pmtu(net, dst, daddr, mtu)


def ip_do_redirect(net: NetNamespace, dev: NetDevice, daddr: int, old_gw: int, new_gw: int) -> None:
    """Packets to daddr go through new_gw, if the redirect is believable.

    RFC 1122 3.2.2.2; Linux: __ip_do_redirect().
    """
    all_conf = net.sysctl.conf4["all"]
    if dev.conf.forwarding:
        accepts = all_conf.accept_redirects and dev.conf.accept_redirects
    else:
        accepts = all_conf.accept_redirects or dev.conf.accept_redirects
    if not accepts or new_gw == old_gw or new_gw >> 28 == 0xE or new_gw == 0xFFFFFFFF or new_gw >> 24 == 0:
        return
    try:
        dst = ip_route_output_key(net, daddr)
    except OSError:
        return
    if dst.gateway != old_gw or dst.dev is not dev:
        return
    if not max_conf(net, dev, "shared_media"):
        if not inet_addr_onlink(dev, new_gw, old_gw):
            return
    elif inet_addr_type(net, new_gw) != RTN_UNICAST:
        return
    update_or_create_fnhe(net, daddr, new_gw, 0, False, net.loop.now + REDIRECT_TIMEOUT)
