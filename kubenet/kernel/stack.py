"""A new network namespace, complete: every layer has put its tables in, in order.

    net = new_namespace(host, "node-1")          the first one of a host is the machine's own
    net = new_namespace(host, "default/client")  later ones are pods'

As Linux does with devconf_inherit_init_net=0, a later namespace copies from the machine's own: net.ipv4.conf.all and
default, tcp_rmem, tcp_wmem and the congestion control. Everything else starts with the kernel's defaults (observed on
6.18: bbr and forwarding are inherited, conntrack timeouts are not).

Sources: Linux net/core/net_namespace.c setup_net(); net/ipv4/devinet.c devinet_init_net(), tcp_ipv4.c tcp_sk_init().
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from kubenet.kernel.dev.device import unregister_netdevice
from kubenet.kernel.dev.loopback import loopback_net_init
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.init import ip_net_init
from kubenet.kernel.netns import NetNamespace

COPIED_TCP = ("tcp_rmem", "tcp_wmem", "tcp_congestion_control")

Init = Callable[[NetNamespace], None]

# sockets and transports stand to the right of IP, and register themselves here when the stack is put together
INIT_ORDER = (
    ("kubenet.kernel.socket.inet", "inet_net_init"),
    ("kubenet.kernel.socket.udp", "udp_net_init"),
    ("kubenet.kernel.socket.raw", "raw_net_init"),
    ("kubenet.kernel.tcp", "tcp_net_init"),
)
_inits: list[Init] = []
_raw: list[Any] = []  # raw_local_deliver, ping_rcv, raw_icmp_error: how IP reaches raw and ping sockets


def new_namespace(host: Host, name: str) -> NetNamespace:
    """A namespace with lo up and every protocol ready. The host's first one is its own."""
    init_net = next(iter(host.namespaces.values()), None)
    net = NetNamespace(host, name)
    if init_net is not None:
        _inherit(net, init_net)
    loopback_net_init(net)
    ip_net_init(net)
    if not _inits:
        _inits.extend(_find_inits())
    for init in _inits:
        init(net)
    if _raw:
        net.icmp.raw_deliver, net.icmp.ping_rcv, net.icmp.raw_err = _raw
    return net


def delete_namespace(net: NetNamespace) -> None:
    """The namespace is gone, its devices (and a veth's other end) with it. Linux: cleanup_net()."""
    for dev in list(net.devs.values()):
        unregister_netdevice(dev)
    if net.host.namespaces.get(net.name) is net:
        del net.host.namespaces[net.name]


def _find_inits() -> list[Init]:
    found: list[Init] = []
    for module, function in INIT_ORDER:
        try:
            init = getattr(import_module(module), function, None)
        except ModuleNotFoundError:
            init = None
        if init is not None:
            found.append(init)
        if function == "raw_net_init" and init is not None:
            raw = import_module(module)
            _raw[:] = raw.raw_local_deliver, raw.ping_rcv, raw.raw_icmp_error
    return found


def _inherit(net: NetNamespace, init_net: NetNamespace) -> None:
    for name in ("all", "default"):
        net.sysctl.conf4[name].__dict__.update(init_net.sysctl.conf4[name].__dict__)
    net.sysctl.ipv4.ip_forward = net.sysctl.conf4["all"].forwarding
    for key in COPIED_TCP:
        if key in init_net.sysctl.ipv4.__dict__:
            setattr(net.sysctl.ipv4, key, init_net.sysctl.ipv4.__dict__[key])
