"""Which conntrack entries a sync leaves wrong: UDP flows that still lead to an endpoint that serves no longer.

NAT decides once per connection. A TCP connection to a dead Pod ends by itself; a UDP flow from the same port (a DNS
client, a syslog sender) never does, and every packet keeps its entry alive. So after a sync in which endpoints of a
UDP service port changed, kube-proxy goes through the whole table of the family and deletes UDP entries

    whose original destination is a clusterIP, VIP or externalIP with the port of a UDP service port
    or whose original port is its NodePort, whatever the address,
    and whose reply does not come from one of its serving endpoints (terminating ones included).

Neither traffic policy nor topology count. TCP and SCTP are never touched. A service port without any serving endpoint
is passed over in 1.32 to 1.36; later versions delete all its entries, and those of deleted services
(`clean_empty=True`): before, DNS clients of a service scaled to zero and up again could hang for hours.

Source: pkg/proxy/conntrack/cleanup.go CleanStaleEntries().
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubenet.cluster.proxy.changes import Endpoint, PortKey, ServicePort

Address = tuple[int, int]
"""(address, port)."""


class UdpCleanup:
    """The decision for one moment; ask `is_stale` for each UDP entry of the family."""

    __slots__ = ("_by_address", "_by_node_port")

    def __init__(
        self,
        ports: Iterable[ServicePort],
        endpoints: Mapping[PortKey, tuple[Endpoint, ...]],
        clean_empty: bool = False,
        gone: Iterable[ServicePort] = (),
    ) -> None:
        self._by_address: dict[Address, dict[Address, None]] = {}
        self._by_node_port: dict[int, dict[Address, None]] = {}
        if clean_empty:
            for port in gone:  # first, because a new service may have taken over the address
                self._expect(port, {})
        for port in ports:
            if port.protocol == "udp":
                found = endpoints.get((port.spn, port.protocol), ())
                serving = {(e.ip.value, e.port): None for e in found if e.serving}
                if serving or clean_empty:
                    self._expect(port, serving)

    def _expect(self, port: ServicePort, serving: dict[Address, None]) -> None:
        for ip in (port.cluster_ip, *port.external_ips, *port.vips):
            self._by_address[ip.value, port.port] = serving
        if port.node_port:
            self._by_node_port[port.node_port] = serving

    @property
    def has_work(self) -> bool:
        """Whether any entry could be stale at all."""
        return bool(self._by_address or self._by_node_port)

    def is_stale(self, orig_dst: int, orig_dport: int, reply_src: int, reply_sport: int) -> bool:
        """Whether a UDP entry with this original destination and this reply source has to go."""
        source = (reply_src, reply_sport)
        expected = self._by_address.get((orig_dst, orig_dport))
        if expected is not None and source not in expected:
            return True
        expected = self._by_node_port.get(orig_dport)
        return expected is not None and source not in expected
