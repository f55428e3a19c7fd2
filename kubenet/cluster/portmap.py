"""hostPort: a port of the node that leads to a pod, as the CNI plugin portmap writes it into the nat table.

    CNI-HOSTPORT-DNAT      jumped to from PREROUTING and OUTPUT for local destinations; one rule per pod and protocol
    CNI-DN-<21 hex>        the pod's own rules: mark what must be masqueraded (from the pod CIDR, from 127.0.0.1), then DNAT
    CNI-HOSTPORT-SETMARK   mark 0x2000
    CNI-HOSTPORT-MASQ      jumped to from POSTROUTING; masquerades what carries the mark

The chain's name is the hash of the network's and the container's name. The scheduler keeps two pods with the same hostPort
apart. Source: containernetworking/plugins plugins/meta/portmap (iptables backend), pkg/utils/utils.go.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netns import AF_INET, NetNamespace

Obj = dict[str, Any]

NETWORK = "cbr0"
DNAT, SETMARK, MASQ = "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"
MARK = "0x2000/0x2000"
CHAIN_LENGTH = 28
MULTIPORT = 15  # ports that one multiport match holds


class HostPort(NamedTuple):
    """One hostPort of a pod."""

    protocol: str
    host_ip: str
    host_port: int
    container_port: int


def host_ports(pod: Obj) -> list[HostPort]:
    """The host ports a pod asks for; those of hostNetwork pods are theirs already."""
    if pod["spec"].get("hostNetwork"):
        return []
    sidecars = [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    return [HostPort(str(p.get("protocol", "TCP")).lower(), str(p.get("hostIP") or ""), int(p["hostPort"]), int(p["containerPort"]))
            for c in [*pod["spec"]["containers"], *sidecars] for p in c.get("ports") or [] if p.get("hostPort")]


def chain_name(container_id: str) -> str:
    """CNI-DN- and as much of a SHA-512 as fits. Plugins: MustFormatChainNameWithPrefix()."""
    return ("CNI-DN-" + hashlib.sha512((NETWORK + container_id).encode()).hexdigest())[:CHAIN_LENGTH]


def _nat(net: NetNamespace, *argv: str) -> int:
    return iptables_command(net, AF_INET, ["-w", "-t", "nat", *argv])[0]


def _ensure(net: NetNamespace, op: str, chain: str, *rule: str) -> None:
    """The rule is there, once."""
    if _nat(net, "-C", chain, *rule):
        _nat(net, op, chain, *rule)


def portmap_add(net: NetNamespace, container_id: str, ip: str, pod_cidr: str, ports: list[HostPort]) -> None:
    """The node's host ports lead to the pod at `ip`."""
    for chain in (SETMARK, MASQ, DNAT):
        _nat(net, "-N", chain)
    _ensure(net, "-A", SETMARK, "-m", "comment", "--comment", "CNI portfwd masquerade mark", "-j", "MARK", "--set-xmark", MARK)
    _ensure(net, "-A", MASQ, "-m", "mark", "--mark", MARK, "-j", "MASQUERADE")
    _ensure(net, "-A", "POSTROUTING", "-m", "comment", "--comment", "CNI portfwd requiring masquerade", "-j", MASQ)
    for chain in ("PREROUTING", "OUTPUT"):
        _ensure(net, "-A", chain, "-m", "addrtype", "--dst-type", "LOCAL", "-j", DNAT)
    own = chain_name(container_id)
    _nat(net, "-N", own)
    comment = f'dnat name: "{NETWORK}" id: "{container_id}"'
    for protocol in dict.fromkeys(p.protocol for p in ports):
        numbers = [str(p.host_port) for p in ports if p.protocol == protocol]
        for at in range(0, len(numbers), MULTIPORT):
            _nat(net, "-A", DNAT, "-p", protocol, "-m", "comment", "--comment", comment, "-m", "multiport",
                 "--destination-ports", ",".join(numbers[at : at + MULTIPORT]), "-j", own)
    for port in ports:
        match = ["-p", port.protocol, "--dport", str(port.host_port)]
        if port.host_ip and port.host_ip != "0.0.0.0":
            match += ["-d", port.host_ip]
        for source in (pod_cidr, "127.0.0.1/32"):
            _nat(net, "-A", own, "-s", source, *match, "-j", SETMARK)
        _nat(net, "-A", own, *match, "-j", "DNAT", "--to-destination", f"{ip}:{port.container_port}")


def portmap_del(net: NetNamespace, container_id: str) -> None:
    """No host port leads to that pod any more. No error if none did."""
    own = chain_name(container_id)
    if _nat(net, "-n", "-L", own):
        return
    _, text, _ = iptables_command(net, AF_INET, ["-w", "-t", "nat", "-S", DNAT])
    for number in reversed([n for n, line in enumerate(text.splitlines()) if line.endswith(f"-j {own}")]):
        _nat(net, "-D", DNAT, str(number))
    _nat(net, "-F", own)
    _nat(net, "-X", own)
