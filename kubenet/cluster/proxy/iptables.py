"""kube-proxy in iptables mode: from Services and EndpointSlices to the text that iptables-restore is fed.

    proxier = IptablesProxier(options, AF_INET)
    proxier.on_service(None, service); proxier.on_slice(None, slice)       plain API objects
    result = proxier.sync(existing_nat_chains, now)                        -> SyncResult
    restore(result.text)                                                   iptables-restore -w 5 --noflush --counters
    proxier.sync_failed()                                                  if that did not work: the next one is full

Nothing here touches a kernel, a clock or the network; `rules_for()` is the whole of it as one pure function.

A full sync writes everything. A partial one writes the shared chains (they are emptied by their chain line, so they
must be complete) and of the service ports' own chains only those that changed; the others stay in the kernel as they
are. Texts of unchanged service ports are kept, so that a sync pays for what changed and for joining strings.

Service ports are visited in ascending order of namespace/name[:port], then protocol (kube-proxy itself iterates a hash
map, so there is no order of its own to keep). The chains' hashes do not depend on it.

Source: pkg/proxy/iptables/proxier.go syncProxyRules(), iptablesJumpChains; pkg/kubelet/kubelet_network_linux.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.api.views import ZONE_LABEL, NodeView, Obj, ViewCache
from kubenet.cluster.proxy.base import APPEND, CHAIN, DELETE, PREPEND, JumpRule, Step, SyncResult, SyncStats, proxy_mode
from kubenet.cluster.proxy.categorize import categorize
from kubenet.cluster.proxy.changes import (
    Changes,
    PortKey,
    ServiceName,
    ServicePort,
    ServiceTracker,
    SliceTracker,
    Trackers,
)
from kubenet.cluster.proxy.conntrack_cleanup import UdpCleanup
from kubenet.cluster.proxy.names import (
    HASHED_PREFIXES,
    KUBE_EXTERNAL_SERVICES,
    KUBE_FIREWALL,
    KUBE_FORWARD,
    KUBE_IPTABLES_HINT,
    KUBE_KUBELET_CANARY,
    KUBE_MARK_MASQ,
    KUBE_NODEPORTS,
    KUBE_POSTROUTING,
    KUBE_PROXY_CANARY,
    KUBE_PROXY_FIREWALL,
    KUBE_SERVICES,
)
from kubenet.cluster.proxy.options import INVALID_NFACCT, ProxyOptions
from kubenet.cluster.proxy.rules import (
    ChainRules,
    PortalRules,
    PortUse,
    RuleEnv,
    chain_line,
    chain_rules,
    nodeports_dispatch,
    portal_rules,
    postrouting_chain,
)
from kubenet.units import SEC

LARGE_CLUSTER_ENDPOINTS = 1000
FULL_SYNC_PERIOD = 3600 * SEC

FILTER_CHAINS = (KUBE_SERVICES, KUBE_EXTERNAL_SERVICES, KUBE_FORWARD, KUBE_NODEPORTS, KUBE_PROXY_FIREWALL)
NAT_CHAINS = (KUBE_SERVICES, KUBE_NODEPORTS, KUBE_POSTROUTING, KUBE_MARK_MASQ)

_NEW = ("-m", "conntrack", "--ctstate", "NEW")


def _jump(table: str, chain: str, target: str, comment: str = "", match: tuple[str, ...] = ()) -> JumpRule:
    words = ("-m", "comment", "--comment", comment) if comment else ()
    return JumpRule(table, chain, target, (*match, *words, "-j", target))


JUMPS = (
    _jump("filter", "INPUT", KUBE_EXTERNAL_SERVICES, "kubernetes externally-visible service portals", _NEW),
    _jump("filter", "FORWARD", KUBE_EXTERNAL_SERVICES, "kubernetes externally-visible service portals", _NEW),
    _jump("filter", "INPUT", KUBE_NODEPORTS, "kubernetes health check service ports"),
    _jump("filter", "FORWARD", KUBE_SERVICES, "kubernetes service portals", _NEW),
    _jump("filter", "OUTPUT", KUBE_SERVICES, "kubernetes service portals", _NEW),
    _jump("filter", "FORWARD", KUBE_FORWARD, "kubernetes forwarding rules"),
    _jump("filter", "INPUT", KUBE_PROXY_FIREWALL, "kubernetes load balancer firewall", _NEW),
    _jump("filter", "OUTPUT", KUBE_PROXY_FIREWALL, "kubernetes load balancer firewall", _NEW),
    _jump("filter", "FORWARD", KUBE_PROXY_FIREWALL, "kubernetes load balancer firewall", _NEW),
    _jump("nat", "OUTPUT", KUBE_SERVICES, "kubernetes service portals"),
    _jump("nat", "PREROUTING", KUBE_SERVICES, "kubernetes service portals"),
    _jump("nat", "POSTROUTING", KUBE_POSTROUTING, "kubernetes postrouting rules"),
    _jump("filter", "INPUT", KUBE_FIREWALL),
    _jump("filter", "OUTPUT", KUBE_FIREWALL),
)
"""In the order they are ensured. Each is put in front, so the chains read in reverse."""

_LOCALNET_COMMENT = "block incoming localnet connections"
_LOCALNET_RULE = (
    *("-m", "comment", "--comment", _LOCALNET_COMMENT),
    *("-d", "127.0.0.0/8", "!", "-s", "127.0.0.0/8"),
    *("-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "DROP"),
)


def jump_rules() -> list[JumpRule]:
    """The jumps from built-in chains that a full sync ensures, in order; the same for both families."""
    return list(JUMPS)


def canary_steps(name: str = KUBE_PROXY_CANARY) -> list[Step]:
    """Empty chains whose disappearance tells that somebody flushed the tables."""
    return [Step(CHAIN, table, name) for table in ("mangle", "nat", "filter")]


def kubelet_rules(family: int) -> list[Step]:
    """What kubelet sets up when it starts: the hint, KUBE-FIREWALL with its jumps (IPv4), its canaries."""
    steps = [Step(CHAIN, "mangle", KUBE_IPTABLES_HINT)]
    if family == AF_INET:
        steps += [
            Step(CHAIN, "filter", KUBE_FIREWALL),
            Step(PREPEND, "filter", "OUTPUT", ("-j", KUBE_FIREWALL)),
            Step(PREPEND, "filter", "INPUT", ("-j", KUBE_FIREWALL)),
            Step(APPEND, "filter", KUBE_FIREWALL, _LOCALNET_RULE),
        ]
    return steps + canary_steps(KUBE_KUBELET_CANARY)


def cleanup_steps() -> list[Step]:
    """The jumps that `kube-proxy --cleanup` takes away before `cleanup_text()`; KUBE-FIREWALL's stay."""
    return [Step(DELETE, jump.table, jump.chain, jump.args) for jump in JUMPS if jump.target != KUBE_FIREWALL]


def cleanup_text(existing: Mapping[str, Iterable[str]]) -> str:
    """Restore input that removes kube-proxy's chains; `existing` names the chains of each table."""
    out = []
    for table, known in (("nat", NAT_CHAINS), ("filter", FILTER_CHAINS), ("mangle", ())):
        here = list(existing.get(table, ()))
        mine = [name for name in (*known, KUBE_PROXY_CANARY) if name in here]
        mine += sorted(name for name in here if name.startswith(HASHED_PREFIXES))
        if mine:
            removals = [f"-X {name}\n" for name in mine]
            out += [f"*{table}\n", *map(chain_line, mine), *removals, "COMMIT\n"]
    return "".join(out)


class Cadence:
    """When everything is written again, and when chains that nobody needs are looked for. Times in ns."""

    __slots__ = ("last_full", "last_cleanup")

    def __init__(self, last_full: int = 0, last_cleanup: int = -1) -> None:
        self.last_full = last_full
        self.last_cleanup = last_cleanup

    def needs_full(self, now: int, is_large: bool) -> bool:
        """An hour without a full sync is over; large clusters are spared."""
        return now - self.last_full > FULL_SYNC_PERIOD and not is_large

    def cleans(self, now: int, is_large: bool, period: int) -> bool:
        """This sync deletes stale chains: in a large cluster once in `period`. It is then the last one that did."""
        due = not is_large or self.last_cleanup < 0 or now - self.last_cleanup > period
        if due:
            self.last_cleanup = now
        return due


class PortEntry(NamedTuple):
    """The rules that stand for one service port."""

    portals: PortalRules
    chains: ChainRules


@proxy_mode("iptables")
class IptablesProxier:
    """kube-proxy's rules of one address family on one node, kept up to date by events."""

    def __init__(self, options: ProxyOptions, family: int = AF_INET, views: ViewCache | None = None,
                 trackers: Trackers | None = None) -> None:
        self.options = options
        self.family = family
        self.trackers = trackers or Trackers(family, options.allow_external_ips, views)
        self.topology = dict(options.topology_labels)
        self.is_large = False
        self._env = RuleEnv.of(options, family)
        self._node_ip = options.node_ip_of(family)
        self._entries: dict[PortKey, PortEntry] = {}
        self._order: list[PortKey] = []
        self._owners: dict[ServiceName, tuple[PortKey, ...]] = {}
        self._active: dict[str, PortKey] = {}
        self._dirty: dict[PortKey, None] = {}
        self._needs_full = True
        self._needs_rebuild = False
        self.cadence = Cadence()
        self._udp_changed = False
        self._gone_udp: list[ServicePort] = []

    @property
    def services(self) -> ServiceTracker:
        """What is known of Services."""
        return self.trackers.services

    @property
    def slices(self) -> SliceTracker:
        """What is known of EndpointSlices."""
        return self.trackers.slices

    # Events

    def on_service(self, old: Obj | None, new: Obj | None) -> bool:
        """Note that a Service was added (None, new), changed or deleted (old, None); true if a sync has work."""
        return self.trackers.services.update(old, new)

    def on_slice(self, old: Obj | None, new: Obj | None) -> bool:
        """Note that an EndpointSlice was added, changed or deleted; true if a sync has work."""
        return self.trackers.slices.update(old, new)

    def on_node(self, node: Obj | None) -> bool:
        """Note this node's labels; topology labels that changed make the next sync a full one."""
        view = NodeView.of(node or {})
        if node is None or view.meta.name != self.options.node_name:
            return False
        labels = {key: value for key, value in view.meta.labels.items() if key.startswith("topology.kubernetes.io/")}
        if labels != self.topology:
            self.topology = labels
            self._needs_full = self._needs_rebuild = True
        return self._needs_full

    def on_event(self, op: str, obj: Obj) -> bool:
        """Note one event `op` ("add", "update" or "delete") of whatever kind of object; others are passed over."""
        old, new = (obj, None) if op == "delete" else (None, obj)
        kind = obj.get("kind")
        if kind == "Service":
            return self.on_service(old, new)
        if kind == "EndpointSlice":
            return self.on_slice(old, new)
        return self.on_node(new) if kind == "Node" else False

    def sync_failed(self) -> None:
        """The text of the last sync is not in the kernel: write everything next time."""
        self._needs_full = True

    # Syncs

    def jump_rules(self) -> list[JumpRule]:
        """The jumps from built-in chains, in the order they are ensured."""
        return jump_rules()

    def sync(self, existing_nat_chains: Iterable[str] = (), now: int = 0, changes: Changes | None = None) -> SyncResult:
        """Take over what was noted; the text of a full or partial sync. `existing_nat_chains`: see stale chains.

        `now` (ns) counts from any moment, but always the same. `changes`: what trackers shared with other nodes took over.
        """
        self._take_over(changes)
        is_full = self._needs_full or self.cadence.needs_full(now, self.is_large)
        stale: list[str] = []
        if self.cadence.cleans(now, self.is_large, self.options.sync_period):
            stale = self._stale_chains(existing_nat_chains)
        written = dict.fromkeys(key for key in self._order if is_full or key in self._dirty)
        stats = SyncStats(services=len(self._entries), rewritten=len(written), stale_chains=len(stale))
        text = self._text(written, stale, stats)
        result = SyncResult(text, is_full, jump_rules() if is_full else [], self._udp_changed, self._gone_udp, stats)
        if is_full:
            self._needs_full, self.cadence.last_full = False, now
        self._dirty, self._udp_changed, self._gone_udp = {}, False, []
        return result

    def full_sync_text(self, existing_nat_chains: Iterable[str] = ()) -> str:
        """What a full sync would feed to restore now. Does not count as a sync."""
        self._take_over()
        return self._text(self._entries, self._stale_chains(existing_nat_chains), SyncStats())

    def udp_cleanup(self, result: SyncResult | None = None) -> UdpCleanup:
        """Which conntrack entries are stale now (conntrack_cleanup)."""
        gone = result.gone_udp if result is not None else ()
        return UdpCleanup(
            self.trackers.services.ports.values(), self.trackers.slices.endpoints, self.options.clean_empty_udp_services, gone
        )

    def active_chains(self) -> list[str]:
        """The hashed chains that some service port needs, sorted."""
        return sorted(self._active)

    # Keeping entries

    def _take_over(self, changes: Changes | None = None) -> None:
        """Apply pending events and write again the rules of the service ports they concern."""
        changes = changes or self.trackers.apply()
        self._udp_changed = self._udp_changed or changes.udp_changed
        self._gone_udp += changes.gone_udp
        was_large, self.is_large = self.is_large, self.trackers.count_endpoints() > LARGE_CLUSTER_ENDPOINTS
        changed = dict.fromkeys(changes.names)
        for name in changed:
            self._replace(name)
        if changes.has_services:
            self._order = sorted(self._entries)
        if self._needs_rebuild or was_large != self.is_large:
            self._needs_rebuild = False
            for name in [name for name in self._owners if name not in changed]:
                self._replace(name, is_change=False)

    def _replace(self, name: ServiceName, is_change: bool = True) -> None:
        """The entries of one Service are those its ports and endpoints ask for now."""
        before = {key: self._entries.pop(key) for key in self._owners.pop(name, ())}
        for entry in before.values():
            for chain in entry.chains.names:
                del self._active[chain]
        keys = self.trackers.services.keys_of(name)
        if keys:
            self._owners[name] = keys
        for key in keys:
            entry = self._entries[key] = self._entry(key)
            for chain in entry.chains.names:
                self._active[chain] = key
        if is_change:
            self._dirty.update(dict.fromkeys((*before, *keys)))

    def _entry(self, key: PortKey) -> PortEntry:
        port = self.trackers.services.ports[key]
        endpoints = self.trackers.slices.endpoints.get(key, ())
        cat = categorize(endpoints, port, self.options.node_name, self.topology.get(ZONE_LABEL, ""))
        use = PortUse(port, cat)
        chains = chain_rules(use, self._env, self._node_ip, self.is_large)
        return PortEntry(portal_rules(use, self._env), chains)

    def _stale_chains(self, existing: Iterable[str]) -> list[str]:
        """Chains of service ports and endpoints that are in the kernel but no longer needed by anything, sorted."""
        active = self._active
        return sorted([name for name in existing if name.startswith(HASHED_PREFIXES) and name not in active])

    # Writing

    def _text(self, written: Iterable[PortKey], stale: list[str], stats: SyncStats) -> str:
        """Restore input with the chains of `written` service ports; counts go into `stats`."""
        entries = [self._entries[key] for key in self._order]
        chosen = dict.fromkeys(written)
        changed = [self._entries[key].chains for key in self._order if key in chosen]
        nat = postrouting_chain(self.options)
        fixed = len(nat)
        for key, entry in zip(self._order, entries, strict=True):
            nat.append(entry.portals.nat)
            if key in chosen:
                nat.append(entry.chains.rules)
        dispatch = nodeports_dispatch(self.options, self.family)
        filter_head, filter_tail = self._filter_head(), self._filter_tail()
        portals = sum([entry.portals.nat_count for entry in entries]) + fixed + len(dispatch)
        stats.endpoints = self.trackers.count_endpoints()
        stats.nat_rules = portals + sum([chains.rule_count for chains in changed]) + len(stale)
        stats.nat_rules_total = portals + sum([entry.chains.rule_count for entry in entries])
        stats.filter_rules = len(filter_head) + len(filter_tail) + sum([e.portals.filter_count for e in entries])
        parts = [
            "*filter\n",
            *map(chain_line, FILTER_CHAINS),
            chain_line(KUBE_FIREWALL) if filter_head else "",
            *filter_head,
            *[entry.portals.filter for entry in entries],
            *filter_tail,
            "COMMIT\n*nat\n",
            *map(chain_line, NAT_CHAINS),
            *[chains.chain_lines for chains in changed],
            *map(chain_line, stale),
            *nat,
            *[f"-X {name}\n" for name in stale],
            *dispatch,
            "COMMIT\n",
        ]
        return "".join(parts)

    def _filter_head(self) -> list[str]:
        """Nobody outside may use route_localnet to reach 127.0.0.0/8; needed only where NodePorts answer there."""
        if not self.options.localhost_ports(self.family):
            return []
        words = " ".join([f'"{word}"' if word == _LOCALNET_COMMENT else word for word in _LOCALNET_RULE])
        return [f"-A {KUBE_FIREWALL} {words}\n"]

    def _filter_tail(self) -> list[str]:
        """KUBE-FORWARD: what conntrack cannot place is dropped, marked and answering packets are let through."""
        mark = self.options.mark
        counted = f" -m nfacct --nfacct-name {INVALID_NFACCT}" if INVALID_NFACCT in self.options.nfacct else ""
        invalid = f"-A {KUBE_FORWARD} -m conntrack --ctstate INVALID{counted} -j DROP\n"
        return [
            *([] if self.options.conntrack_tcp_be_liberal else [invalid]),
            f'-A {KUBE_FORWARD} -m comment --comment "kubernetes forwarding rules" -m mark --mark {mark}/{mark}'
            " -j ACCEPT\n",
            f'-A {KUBE_FORWARD} -m comment --comment "kubernetes forwarding conntrack rule"'
            " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
        ]


def rules_for(objects: Iterable[Obj], options: ProxyOptions, family: int = AF_INET) -> str:
    """What a kube-proxy on this node feeds to iptables-restore first, given these Services and EndpointSlices."""
    proxier = IptablesProxier(options, family)
    for obj in objects:
        proxier.on_event("add", obj)
    return proxier.full_sync_text()
