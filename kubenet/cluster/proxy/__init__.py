"""kube-proxy: Services and EndpointSlices in, rules for the node's kernel out.

    options       what it is configured with            ProxyOptions
    config        its file, and what differs by node    options_for_node()
    changes       what it remembers of the cluster      ServicePort, Endpoint, trackers
    categorize    which endpoints may be used here      categorize()
    names         chain names                           hash16()
    rules         the rules of one service port         portal_rules(), chain_rules()
    iptables      whole syncs, full and partial         IptablesProxier, rules_for()
    schedule      when it reads, when it writes         SyncSchedule
    controller    the program that watches and syncs    KubeProxy
    group         many nodes that listen once           ProxyGroup
    conntrack_cleanup   stale UDP entries after a sync  UdpCleanup
    base          what modes have in common             SyncResult, Step, proxy_mode

Everything but the controller is pure: text and decisions. The controller applies them through a Backend.
"""

from __future__ import annotations

from kubenet.cluster.proxy.base import (
    JumpRule,
    ProxyMode,
    Step,
    SyncResult,
    SyncStats,
    ensure,
    find_mode,
    nat_chains_after,
    proxy_mode,
)
from kubenet.cluster.proxy.config import ConntrackConfig, options_for_node, startup_sysctls
from kubenet.cluster.proxy.conntrack_cleanup import UdpCleanup
from kubenet.cluster.proxy.controller import Backend, KubeProxy
from kubenet.cluster.proxy.group import ProxyGroup
from kubenet.cluster.proxy.iptables import (
    IptablesProxier,
    canary_steps,
    cleanup_steps,
    cleanup_text,
    jump_rules,
    kubelet_rules,
    rules_for,
)
from kubenet.cluster.proxy.options import ProxyOptions

__all__ = [
    "Backend",
    "ConntrackConfig",
    "IptablesProxier",
    "JumpRule",
    "KubeProxy",
    "ProxyGroup",
    "ProxyMode",
    "ProxyOptions",
    "Step",
    "SyncResult",
    "SyncStats",
    "UdpCleanup",
    "canary_steps",
    "cleanup_steps",
    "cleanup_text",
    "ensure",
    "find_mode",
    "jump_rules",
    "kubelet_rules",
    "nat_chains_after",
    "options_for_node",
    "proxy_mode",
    "rules_for",
    "startup_sysctls",
]
