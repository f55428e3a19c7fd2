"""TCP: connections, from the SYN to the last TIME-WAIT.

    sock.py states.py seq.py           the record, its states, numbers that do not wrap
    connect.py listen.py timewait.py   how connections begin and end
    input.py ack.py reassembly.py      segments arrive
    stream.py output.py                segments leave
    window.py rtt.py timers.py         how much, how soon, how often
    recovery.py congestion/            what was lost, and how fast to go
    tcp.py sockopt.py info.py          the socket's view: system calls, options, what `ss` shows

tcp_net_init(net) makes a namespace speak it. Sources: RFC 9293 and those named in each file; Linux net/ipv4/tcp*.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IPPROTO_TCP = 6


def tcp_net_init(net: NetNamespace) -> None:
    """The namespace can speak TCP: segments find their sockets, and socket() makes them. Linux: tcp_sk_init()."""
    from kubenet.kernel.tcp.connect import TcpNet
    from kubenet.kernel.tcp.input import tcp_v4_err, tcp_v4_rcv
    from kubenet.kernel.tcp.tcp import tcp_prot

    assert tcp_prot.name == "TCP"
    net.tcp = TcpNet(net)
    net.inet_protos[IPPROTO_TCP] = (tcp_v4_rcv, tcp_v4_err)
