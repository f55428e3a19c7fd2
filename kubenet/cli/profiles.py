"""The clusters that `kubenet up PROFILE` makes, as Topology manifests; and what to compare when there is a session already."""

from __future__ import annotations

from typing import Any

from kubenet.cli.client import EPOCH, SEED
from kubenet.errors import UsageError

Obj = dict[str, Any]
DEFAULT = "three-nodes"


def _topology(name: str, nodes: int, **more: Any) -> Obj:
    spec = {"nodes": [{"name": f"node-{k}"} for k in range(1, nodes + 1)], "outside": [{"name": "outside"}], **more}
    return {"apiVersion": "kubenet.dev/v1", "kind": "Topology", "metadata": {"name": name}, "spec": spec}


PROFILES: dict[str, tuple[str, Obj]] = {
    "three-nodes": ("node-1, node-2, node-3 and a client outside", _topology("three-nodes", 3)),
    "two-nodes": ("node-1, node-2; the API's Service is 10.96.0.2, as in the labs",
                  _topology("two-nodes", 2, kubernetesService="10.96.0.2")),
}


def profile(name: str) -> Obj:
    """The Topology of a profile. Raises UsageError."""
    found = PROFILES.get(name)
    if found is None:
        from kubenet.cli.render import did_you_mean

        raise UsageError(f"no profile {name!r}.{did_you_mean(name, list(PROFILES))}", why=f"profiles: {', '.join(PROFILES)}",
                         try_="kubenet up two-nodes, or kubenet up -f topology.yaml")
    return found[1]


def with_cni_mode(topology: Obj | None, mode: str) -> Obj:
    """The Topology (None: the default profile) with this cniMode; a file's own is overridden."""
    topology = profile(DEFAULT) if topology is None else topology
    return {**topology, "spec": {**(topology.get("spec") or {}), "cniMode": mode}}


def settings_for(topology: Obj | None, seed: int | None) -> Obj:
    """A new session's settings. The seed is the one given, else the topology's, else 7."""
    topology = profile(DEFAULT) if topology is None else topology
    if seed is None:
        seed = int((topology.get("spec") or {}).get("seed", SEED))
    return {"seed": seed, "epoch": EPOCH, "topology": topology}


def same_cluster(one: Obj | None, other: Obj | None) -> bool:
    """True if both Topologies describe the same machines and wires; names, labels and seeds of the documents apart."""
    return _essence(one) == _essence(other)


def _essence(topology: Obj | None) -> Obj:
    spec = (topology or profile(DEFAULT)).get("spec") or {}
    found = {key: value for key, value in spec.items() if key != "seed" and value not in ({}, [], None)}
    if found.get("cniMode") == "host-gw":
        del found["cniMode"]
    if found.get("outside") == [{"name": "outside"}]:
        del found["outside"]
    return found
