"""The targets: importing this package registers them under the names that follow -j."""

from kubenet.kernel.netfilter.xtables.targets import (
    classify,
    connmark,
    ct,
    hl,
    log,
    mark,
    nat,
    reject,
    reject6,
    set,
    tcpmss,
    tos,
    trace,
    ttl,
)

__all__ = ["classify", "connmark", "ct", "hl", "log", "mark", "nat", "reject", "reject6", "set", "tcpmss", "tos", "trace", "ttl"]
