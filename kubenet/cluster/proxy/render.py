"""kube-proxy without a cluster: what it would feed to iptables-restore on a node, given objects or a list of steps.

    render(objects, options)            the input of the first, full sync
    render_steps(steps, options)        the inputs of a sequence of syncs, one text a step

A step is {"events": [{"op": "add" | "update" | "delete", "object": {...}}]}; the first one ends in a full sync, the
others in partial ones unless something forces a full one (topology labels of the node that changed). The kernel between
the steps is imagined: after each of them it has exactly the chains the texts so far left behind.

No clock and no randomness: the same input gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubenet.cluster.proxy.base import nat_chains_after
from kubenet.cluster.proxy.iptables import IptablesProxier
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.errors import ManifestError

OPS = ("add", "update", "delete")


def flat(objects: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The objects, with each List replaced by its items."""
    for obj in objects:
        if str(obj.get("kind", "")).endswith("List") and isinstance(obj.get("items"), list):
            kind = str(obj["kind"]).removesuffix("List")
            yield from flat([{"kind": kind, **item} if kind else item for item in obj["items"]])
        else:
            yield obj


def render(objects: Iterable[Mapping[str, Any]], options: ProxyOptions) -> str:
    """What kube-proxy feeds to iptables-restore in its first sync, for the options' address family."""
    proxier = IptablesProxier(options, options.ip_family)
    for obj in flat(objects):
        proxier.on_event("add", obj)
    return proxier.sync().text


def _events(step: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    events = step.get("events") if isinstance(step, Mapping) else None
    if not isinstance(events, list):
        raise ManifestError(f"{where} has no list of events", why='a step is {"events": [...]}')
    for number, event in enumerate(events):
        at = f"{where}.events[{number}]"
        if not isinstance(event, Mapping) or event.get("op") not in OPS:
            raise ManifestError(f"{at} has no op", why=f"op is one of {', '.join(OPS)}")
        if not isinstance(event.get("object"), Mapping):
            raise ManifestError(f"{at} has no object")
        for obj in flat([event["object"]]):
            yield event["op"], obj


def render_steps(steps: Any, options: ProxyOptions, objects: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """The input of each sync of a sequence; `objects` are there from the start. Raises ManifestError."""
    if not isinstance(steps, list):
        raise ManifestError("the steps cannot be used", why="they are not a list")
    proxier = IptablesProxier(options, options.ip_family)
    for obj in flat(objects):
        proxier.on_event("add", obj)
    texts: list[str] = []
    chains: list[str] = []
    for number, step in enumerate(steps):
        for op, obj in _events(step, f"steps[{number}]"):
            proxier.on_event(op, obj)
        texts.append(proxier.sync(chains).text)
        chains = nat_chains_after(texts[-1], chains)
    return texts
