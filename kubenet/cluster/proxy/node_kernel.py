"""kube-proxy's backend on an emulated node: the tools it runs, applied to the node's network namespace.

Everything goes through the same functions as the commands a person types (iptables, iptables-restore), so what
kube-proxy writes is parsed, checked and printed like anybody's rules.

    KubeProxy(loop, options, NodeKernel(net))

Conntrack entries are deleted straight in the table, as kube-proxy does over netlink. For a UDP entry the original
destination is what the client asked for, the reply's source is where NAT sent it.
"""

from __future__ import annotations

from collections.abc import Callable

from kubenet.kernel.netfilter.conntrack.entry import NfConn
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.restore import iptables_restore_command
from kubenet.kernel.netfilter.xtables.table import xt_table
from kubenet.kernel.netns import NetNamespace

IPPROTO_UDP = 17


class NodeKernel:
    """One namespace's tables and connections, for `KubeProxy`."""

    __slots__ = ("net",)

    def __init__(self, net: NetNamespace) -> None:
        self.net = net

    def restore(self, family: int, text: str) -> str:
        """Feed iptables-restore; "" or what it printed on standard error."""
        status, _, error = iptables_restore_command(self.net, family, ["-w", "5", "--noflush", "--counters"], text)
        return (error.strip() or f"iptables-restore: exit status {status}") if status else ""

    def run(self, family: int, argv: list[str]) -> int:
        """Run an iptables command, its name first; the exit status."""
        return iptables_command(self.net, family, argv[1:])[0]

    def nat_chains(self, family: int) -> list[str]:
        """The chains of the nat table, built-in ones included."""
        return xt_table(self.net, family, "nat").names()

    def delete_udp(self, family: int, is_stale: Callable[[int, int, int, int], bool]) -> int:
        """Delete the UDP entries of that family that are stale; how many."""
        if self.net.ct is None:
            return 0
        proto = family << 8 | IPPROTO_UDP

        def is_wanted(ct: NfConn) -> bool:
            orig, reply = ct.orig, ct.reply
            return orig[4] == proto and is_stale(orig[2], orig[3], reply[0], reply[1])

        return int(self.net.ct.flush(is_wanted))
