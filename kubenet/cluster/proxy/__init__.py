"""kube-proxy: Services and EndpointSlices in, rules for the node's kernel out.

    options       what it is configured with            ProxyOptions
    changes       what it remembers of the cluster      ServicePort, Endpoint, trackers
    categorize    which endpoints may be used here      categorize()
    names         chain names                           hash16()
    rules         the rules of one service port         portal_rules(), chain_rules()
    iptables      whole syncs, full and partial         IptablesProxier, rules_for()
    conntrack_cleanup   stale UDP entries after a sync  UdpCleanup
    base          what modes have in common             SyncResult, Step, proxy_mode

Everything is pure: text and decisions. Applying them is the controller's.
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
from kubenet.cluster.proxy.conntrack_cleanup import UdpCleanup
from kubenet.cluster.proxy.iptables import (
    IptablesProxier,
    canary_steps,
    cleanup_steps,
    cleanup_text,
    jump_rules,
    kubelet_rules,
    rules_for,
)
from kubenet.cluster.proxy.options import ProxyOptions, startup_sysctls

__all__ = [
    "IptablesProxier",
    "JumpRule",
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
    "proxy_mode",
    "rules_for",
    "startup_sysctls",
]
