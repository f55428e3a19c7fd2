"""The rules of one service port, as kube-proxy writes them for iptables-restore: one short function per kind of chain.

    PREROUTING, OUTPUT -> KUBE-SERVICES --clusterIP--------------> KUBE-SVC-x -> KUBE-SEP-y -> DNAT
                            |--externalIP, VIP----> KUBE-EXT-x --^   (random)
                            |--VIP with ranges----> KUBE-FW-x -> KUBE-EXT-x
                            `--last: the node's own addresses--> KUBE-NODEPORTS -> KUBE-EXT-x
    With a Local policy KUBE-SVL-x stands where KUBE-SVC-x does: the endpoints of this node only.

Two parts, because a partial sync repeats the first for every service port and the second only for changed ones:
`portal_rules()` writes what leads to the service port from shared chains (KUBE-SERVICES, KUBE-NODEPORTS and the
filter table's refusals), `chain_rules()` its own chains. Both are pure functions of (service port, its endpoints as
the node sees them, environment) and remembered as long as anybody holds the result, so a thousand nodes that agree
share one text. The environment is the little that nodes may differ in.

REJECT stands for "no endpoint anywhere", DROP for "none on this node" (so that a load balancer tries elsewhere).

Source: pkg/proxy/iptables/proxier.go syncProxyRules(), writeServiceToEndpointRules(). The order of lines is its order.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakValueDictionary

from kubenet.cluster.api.ips import AF_INET, Ip
from kubenet.cluster.proxy.categorize import Categorized, Endpoints
from kubenet.cluster.proxy.changes import Endpoint, ServicePort
from kubenet.cluster.proxy.names import (
    EXT,
    FW,
    KUBE_EXTERNAL_SERVICES,
    KUBE_MARK_MASQ,
    KUBE_NODEPORTS,
    KUBE_PROXY_FIREWALL,
    KUBE_SERVICES,
    SVC,
    SVL,
    endpoint_chain,
    hash16,
)
from kubenet.cluster.proxy.options import LOCALHOST_NFACCT, LocalMatch, ProxyOptions


class RuleEnv(NamedTuple):
    """What the rules of one service port depend on besides itself and its endpoints."""

    family: int
    masquerade_all: bool
    local: LocalMatch | None
    counts_localhost: bool
    """NodePorts on 127.0.0.1 are answered and counted: they get a rule of their own."""

    @classmethod
    def of(cls, options: ProxyOptions, family: int) -> RuleEnv:
        """The environment of a node with these options."""
        counts = options.localhost_ports(family) and LOCALHOST_NFACCT in options.nfacct
        return cls(family, options.masquerade_all, options.local_match(family), counts)


class PortUse:
    """One service port on one node: names of its chains, and which of them are in use."""

    __slots__ = (
        "cat",
        "ext",
        "external_chain",
        "fw",
        "has_endpoints",
        "has_ext",
        "has_external",
        "has_fw",
        "has_internal",
        "has_svc",
        "has_svl",
        "internal_chain",
        "port",
        "refusal",
        "svc",
        "svl",
    )

    def __init__(self, port: ServicePort, cat: Categorized) -> None:
        name = hash16(port.spn + port.protocol)
        self.port = port
        self.cat = cat
        self.svc, self.svl, self.ext, self.fw = SVC + name, SVL + name, EXT + name, FW + name
        self.internal_chain = self.svl if port.internal_local else self.svc
        self.external_chain = self.svl if port.external_local else self.svc
        self.has_endpoints = cat.has_any
        self.has_internal = cat.has_any and (bool(cat.local) or not port.internal_local)
        self.has_external = cat.has_any and (bool(cat.local) or not port.external_local)
        self.has_ext = cat.has_any and port.is_externally_accessible
        self.has_fw = cat.has_any and bool(port.vips and port.source_ranges)
        self.has_svc = bool(cat.cluster) and port.uses_cluster_endpoints
        self.has_svl = bool(cat.local) and port.uses_local_endpoints
        self.refusal = ("has no local endpoints", "DROP") if cat.has_any else ("has no endpoints", "REJECT")

    def chains(self) -> list[str]:
        """The names of the chains in use, the endpoints' last."""
        port = self.port
        chosen = ((self.has_ext, self.ext), (self.has_fw, self.fw), (self.has_svc, self.svc), (self.has_svl, self.svl))
        names = [name for is_used, name in chosen if is_used]
        names += [endpoint_chain(port.spn, port.protocol, endpoint.text) for endpoint in self.cat.reachable]
        return names


class PortalRules:
    """What stands in shared chains for one service port; rebuilt into every sync."""

    __slots__ = ("__weakref__", "filter", "filter_count", "nat", "nat_count")

    def __init__(self, filter_rules: list[str], nat_rules: list[str]) -> None:
        self.filter = "".join(filter_rules)
        self.nat = "".join(nat_rules)
        self.filter_count = len(filter_rules)
        self.nat_count = len(nat_rules)


class ChainRules:
    """The chains of one service port: their names, the lines that declare them and their rules."""

    __slots__ = ("__weakref__", "chain_lines", "names", "rule_count", "rules")

    def __init__(self, names: list[str], rules: list[str]) -> None:
        self.names = tuple(names)
        self.chain_lines = "".join([chain_line(name) for name in names])
        self.rules = "".join(rules)
        self.rule_count = len(rules)


def chain_line(name: str) -> str:
    """Declares a chain, or empties it if it exists."""
    return f":{name} - [0:0]\n"


def _proto(port: ServicePort) -> str:
    return f"-m {port.protocol} -p {port.protocol}"


def _to(port: ServicePort, ip: Ip) -> str:
    return f"{_proto(port)} -d {ip.text} --dport {port.port}"


# What leads there: KUBE-SERVICES, KUBE-NODEPORTS, and the filter table


def services_chain(use: PortUse, env: RuleEnv, nat: list[str], filter_: list[str]) -> None:
    """The service port's addresses are in KUBE-SERVICES, or refused in the filter table."""
    port, spn = use.port, use.port.spn
    reason, verdict = use.refusal
    if use.has_internal:
        nat.append(
            f'-A {KUBE_SERVICES} -m comment --comment "{spn} cluster IP" {_to(port, port.cluster_ip)}'
            f" -j {use.internal_chain}\n"
        )
    else:
        filter_.append(
            f'-A {KUBE_SERVICES} -m comment --comment "{spn} {reason}" {_to(port, port.cluster_ip)} -j {verdict}\n'
        )
    for ip in port.external_ips:
        if use.has_endpoints:
            nat.append(f'-A {KUBE_SERVICES} -m comment --comment "{spn} external IP" {_to(port, ip)} -j {use.ext}\n')
        if not use.has_external:
            filter_.append(_refuse_external(use, ip))
    _load_balancer(use, nat, filter_)


def _refuse_external(use: PortUse, ip: Ip) -> str:
    reason, verdict = use.refusal
    comment = f'-m comment --comment "{use.port.spn} {reason}"'
    return f"-A {KUBE_EXTERNAL_SERVICES} {comment} {_to(use.port, ip)} -j {verdict}\n"


def _load_balancer(use: PortUse, nat: list[str], filter_: list[str]) -> None:
    port, spn = use.port, use.port.spn
    target = use.fw if use.has_fw else use.ext
    for ip in port.vips:
        if use.has_endpoints:
            nat.append(f'-A {KUBE_SERVICES} -m comment --comment "{spn} loadbalancer IP" {_to(port, ip)} -j {target}\n')
        if use.has_fw:
            filter_.append(
                f'-A {KUBE_PROXY_FIREWALL} -m comment --comment "{spn} traffic not accepted by {use.fw}"'
                f" {_to(port, ip)} -j DROP\n"
            )
    if not use.has_external:
        filter_ += [_refuse_external(use, ip) for ip in port.vips]


def nodeports_chain(use: PortUse, env: RuleEnv, nat: list[str], filter_: list[str]) -> None:
    """The service port's NodePort is in KUBE-NODEPORTS, or refused; its health check port is let in."""
    port, spn = use.port, use.port.spn
    if port.node_port:
        if use.has_endpoints:
            rule = f"-A {KUBE_NODEPORTS} -m comment --comment {spn} {_proto(port)}"
            if env.counts_localhost:
                nat.append(
                    f"{rule} -d 127.0.0.0/8 --dport {port.node_port} -m nfacct --nfacct-name {LOCALHOST_NFACCT}"
                    f" -j {use.ext}\n"
                )
            nat.append(f"{rule} --dport {port.node_port} -j {use.ext}\n")
        if not use.has_external:
            reason, verdict = use.refusal
            filter_.append(
                f'-A {KUBE_EXTERNAL_SERVICES} -m comment --comment "{spn} {reason}" -m addrtype --dst-type LOCAL'
                f" {_proto(port)} --dport {port.node_port} -j {verdict}\n"
            )
    if port.health_check_node_port:
        filter_.append(
            f'-A {KUBE_NODEPORTS} -m comment --comment "{spn} health check node port" -m tcp -p tcp'
            f" --dport {port.health_check_node_port} -j ACCEPT\n"
        )


# Its own chains


def cluster_ip_masquerade(use: PortUse, env: RuleEnv) -> list[str]:
    """Whoever is no local Pod gets the node's address, or the answer would not come back through here."""
    port = use.port
    if not use.has_internal or not (env.masquerade_all or env.local):
        return []
    match = "" if env.masquerade_all or env.local is None else f" {env.local.not_local}"
    comment = f'-m comment --comment "{port.spn} cluster IP"'
    return [f"-A {use.internal_chain} {comment} {_to(port, port.cluster_ip)}{match} -j {KUBE_MARK_MASQ}\n"]


def ext_chain(use: PortUse, env: RuleEnv) -> list[str]:
    """Traffic for an external address: masqueraded (Cluster), or kept as it is for endpoints here (Local).

    With policy Local, Pods and the node itself short-circuit to all endpoints: they never left the cluster.
    """
    ext, spn, rules = use.ext, use.port.spn, []

    def rule(comment: str, rest: str) -> None:
        rules.append(f'-A {ext} -m comment --comment "{comment} {spn} external destinations" {rest}\n')

    if not use.port.external_local:
        rule("masquerade traffic for", f"-j {KUBE_MARK_MASQ}")
    else:
        if env.local is not None:
            rule("pod traffic for", f"{env.local.local} -j {use.svc}")
        rule("masquerade LOCAL traffic for", f"-m addrtype --src-type LOCAL -j {KUBE_MARK_MASQ}")
        rule("route LOCAL traffic for", f"-m addrtype --src-type LOCAL -j {use.svc}")
    if use.has_external:
        rules.append(f"-A {ext} -j {use.external_chain}\n")
    return rules


def fw_chain(use: PortUse, node_ip: Ip) -> list[str]:
    """Only loadBalancerSourceRanges may pass; the rest stays undecided here and is dropped in the filter table.

    A VIP may be an address of the node itself, so if the node is in a range, its VIPs are senders too.
    """
    port = use.port
    head = f'-A {use.fw} -m comment --comment "{port.spn} loadbalancer IP" -s'
    rules = [f"{head} {cidr.text} -j {use.ext}\n" for cidr in port.source_ranges]
    if any(cidr.contains(node_ip) for cidr in port.source_ranges):
        rules += [f"{head} {ip.text} -j {use.ext}\n" for ip in port.vips]
    comment = f'"other traffic to {port.spn} will be dropped by {KUBE_PROXY_FIREWALL}"'
    return [*rules, f"-A {use.fw} -m comment --comment {comment}\n"]


def svc_chain(chain: str, port: ServicePort, endpoints: Endpoints, seps: dict[str, str], large: bool) -> list[str]:
    """Each endpoint gets an equal share: the first 1/n, the next 1/(n-1) of what is left, the last the rest.

    With ClientIP affinity, whoever was sent somewhere in the last T seconds goes there again. Serves
    KUBE-SVC- and KUBE-SVL- alike; `seps` gives an endpoint's chain.
    """
    heads = []
    for endpoint in endpoints:
        comment = "" if large else f' -m comment --comment "{port.spn} -> {endpoint.text}"'
        heads.append((f"-A {chain}{comment}", seps[endpoint.text]))
    rules = []
    if port.affinity_seconds:
        recent = f"--rcheck --seconds {port.affinity_seconds} --reap"
        rules = [f"{head} -m recent --name {sep} {recent} -j {sep}\n" for head, sep in heads]
    for left, (head, sep) in zip(range(len(heads), 0, -1), heads, strict=True):
        share = f" -m statistic --mode random --probability {1 / left:0.10f}" if left > 1 else ""
        rules.append(f"{head}{share} -j {sep}\n")
    return rules


def sep_chain(port: ServicePort, endpoint: Endpoint, sep: str, large: bool) -> list[str]:
    """The end of the way: DNAT to one endpoint. An endpoint that reaches itself is masqueraded (hairpin)."""
    comment = "" if large else f" -m comment --comment {port.spn}"
    recent = f" -m recent --name {sep} --set" if port.affinity_seconds else ""
    return [
        f"-A {sep}{comment} -s {endpoint.ip.text} -j {KUBE_MARK_MASQ}\n",
        f"-A {sep}{comment}{recent} {_proto(port)} -j DNAT --to-destination {endpoint.text}\n",
    ]


# The two parts, remembered

_portals: WeakValueDictionary[tuple[object, ...], PortalRules] = WeakValueDictionary()
_chains: WeakValueDictionary[tuple[object, ...], ChainRules] = WeakValueDictionary()


def portal_rules(use: PortUse, env: RuleEnv) -> PortalRules:
    """The rules in shared chains that lead to this service port or refuse it."""
    key = (use.port, use.has_endpoints, use.has_internal, use.has_external, env)
    found = _portals.get(key)
    if found is None:
        nat: list[str] = []
        filter_: list[str] = []
        services_chain(use, env, nat, filter_)
        nodeports_chain(use, env, nat, filter_)
        found = _portals[key] = PortalRules(filter_, nat)
    return found


def chain_rules(use: PortUse, env: RuleEnv, node_ip: Ip, large: bool) -> ChainRules:
    """The service port's own chains; in a large cluster without the comments that name endpoints."""
    is_node_in = use.has_fw and any(cidr.contains(node_ip) for cidr in use.port.source_ranges)
    key = (use.port, use.cat, env, large, is_node_in)
    found = _chains.get(key)
    if found is None:
        found = _chains[key] = _write_chains(use, env, node_ip, large)
    return found


def _write_chains(use: PortUse, env: RuleEnv, node_ip: Ip, large: bool) -> ChainRules:
    port, cat = use.port, use.cat
    names = use.chains()
    seps = dict(zip([e.text for e in cat.reachable], names[len(names) - len(cat.reachable) :], strict=True))
    rules = cluster_ip_masquerade(use, env)
    if use.has_ext:
        rules += ext_chain(use, env)
    if use.has_fw:
        rules += fw_chain(use, node_ip)
    if use.has_svc:
        rules += svc_chain(use.svc, port, cat.cluster, seps, large)
    if use.has_svl:
        rules += svc_chain(use.svl, port, cat.local, seps, large)
    for endpoint in cat.reachable:
        rules += sep_chain(port, endpoint, seps[endpoint.text], large)
    return ChainRules(names, rules)


def postrouting_chain(options: ProxyOptions) -> list[str]:
    """Marked packets lose the mark and get the node's address; KUBE-MARK-MASQ is what marks."""
    mark = options.mark
    fully = " --random-fully" if options.random_fully else ""
    return [
        f"-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN\n",
        f"-A KUBE-POSTROUTING -j MARK --xor-mark {mark}\n",
        f'-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE{fully}\n',
        f"-A {KUBE_MARK_MASQ} -j MARK --or-mark {mark}\n",
    ]


def nodeports_dispatch(options: ProxyOptions, family: int) -> list[str]:
    """The last rule of KUBE-SERVICES: whatever is for the node itself may be for a NodePort."""
    head = (
        f"-A {KUBE_SERVICES} -m comment --comment"
        ' "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    )
    has_localhost = options.localhost_ports(family)
    addresses = options.node_port_ips(family)
    if addresses is not None:
        usable = [ip for ip in addresses if has_localhost or not ip.is_loopback]
        return [f"{head} -d {ip.text} -j {KUBE_NODEPORTS}\n" for ip in usable]
    if family != AF_INET:
        excluded = " ! -d ::1/128"
    else:
        excluded = "" if has_localhost else " ! -d 127.0.0.0/8"
    return [f"{head} -m addrtype --dst-type LOCAL{excluded} -j {KUBE_NODEPORTS}\n"]
