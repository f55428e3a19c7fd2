"""The targets: importing this package registers them under the names that follow -j."""

from kubenet.kernel.netfilter.xtables.targets import classify, connmark, ct, log, mark, nat, reject, tcpmss, tos, trace, ttl

__all__ = ["classify", "connmark", "ct", "log", "mark", "nat", "reject", "tcpmss", "tos", "trace", "ttl"]
