"""What kube-proxy writes on a node, and what the node's iptables-save prints afterwards.

    restore_text(objects, options)             the input of iptables-restore in the first, full sync
    restore_texts(steps, options, objects)     the inputs of a sequence of syncs
    kernel_text(texts, options)                iptables-save after them, jumps from built-in chains included

kernel_text() is the emulated kernel's answer: the jumps are ensured as kube-proxy ensures them, each text goes through
iptables-restore, then the tables are printed, the one touched last first, as the legacy tool does. Comment lines (version
and date) and counters are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from kubenet.cluster.proxy.base import ensure
from kubenet.cluster.proxy.iptables import jump_rules
from kubenet.cluster.proxy.node_kernel import NodeKernel
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.cluster.proxy.render import render, render_steps
from kubenet.errors import ManifestError
from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.xtables.matches.nfacct import nfacct_add
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netns import NetNamespace
from kubenet.sim.clock import EventLoop

Obj = Mapping[str, Any]
T = TypeVar("T")


def restore_text(objects: Iterable[Obj], options: ProxyOptions) -> str:
    """The input of the first sync."""
    return _guarded(lambda: render(objects, options))


def restore_texts(steps: list[dict[str, Any]], options: ProxyOptions, objects: Iterable[Obj] = ()) -> list[str]:
    """The input of each sync."""
    return _guarded(lambda: render_steps(steps, options, objects))


def _guarded(make: Callable[[], T]) -> T:
    """Objects with a shape that the types allow and kube-proxy cannot use are the person's mistake, not ours."""
    try:
        return make()
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ManifestError(f"an object cannot be read: {error!r}") from None


def load_rules(net: NetNamespace, texts: Iterable[str], options: ProxyOptions, has_jumps: bool = False) -> None:
    """The namespace's tables hold what these restore inputs say. Raises ManifestError with the tool's words.

    `has_jumps`: the text brings the jumps from built-in chains, as iptables-save's does.
    """
    family, node = options.ip_family, NodeKernel(net)
    for name in options.nfacct:
        nfacct_add(net, name)
    if not has_jumps:
        steps = [step for jump in jump_rules() for step in jump.steps()]
        failed = ensure(steps, lambda argv: node.run(family, argv), family)
        assert not failed, f"a jump was refused: {failed[0]}"
    for text in texts:
        refused = node.restore(family, text)
        if refused:
            raise ManifestError("the rules cannot be loaded", why=refused)


def kernel_text(texts: Iterable[str], options: ProxyOptions) -> str:
    """iptables-save after these syncs, without comment lines."""
    net = NetNamespace(Host(EventLoop(), options.node_name or "node"), options.node_name or "node")
    load_rules(net, texts, options)
    return saved(net, options.ip_family)


def saved(net: NetNamespace, family: int) -> str:
    """iptables-save, without comment lines."""
    lines = iptables_save(net, family).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))
