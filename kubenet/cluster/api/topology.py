"""The schema of `kubenet.dev/v1 Topology`, kubenet's own kind: the machines and the wires of a cluster.

It is a manifest, not an API object: `apply` and `up` read it before there is an API server, build the hosts and links
from it, and the store never sees it. Its shape is written here in the same OpenAPI form as the published kinds, so that
unknown fields, wrong types and did-you-mean work alike. What the values mean, and `links` in its two forms (a mapping
for all cables, a list for single ones), is checked where the machines are made (fabric/graph.py).

    apiVersion: kubenet.dev/v1
    kind: Topology
    metadata: {name: three-nodes}
    spec:
      seed: 7
      nodes: [{name: node-1, labels: {topology.kubernetes.io/zone: a}}, {name: node-2}, {name: node-3}]
      links: {latency: 10us, rate: 1gbit}
      outside: [{name: outside, address: 172.18.0.100}]
"""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]

_STR: Obj = {"type": "string"}
_INT: Obj = {"type": "integer", "format": "int64"}
_BOOL: Obj = {"type": "boolean"}
_STRINGS: Obj = {"type": "array", "items": _STR}
_LABELS: Obj = {"type": "object", "additionalProperties": _STR}
_ANY: Obj = {}                                        # several forms: 5% or 0.05, on/off or {tso: false}


def _object(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


def _list_of(item: Obj, key: str = "name") -> Obj:
    return {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


_LINK = _object(latency=_STR, jitter=_STR, rate=_STR, loss=_ANY, reorder=_ANY, duplicate=_ANY, corrupt=_ANY, mtu=_INT,
                queue=_INT, offload=_ANY)
_NODE = {**_object(name=_STR, labels=_LABELS, annotations=_LABELS, podCIDR=_STR, ip=_STR, address=_STR, cpus=_INT, memory=_STR,
                   taints={"type": "array", "items": _object(key=_STR, value=_STR, effect=_STR)}, link=_LINK,
                   sysctls={"type": "object", "additionalProperties": _ANY}),
         "required": ["name"]}
_CLIENT = {**_object(name=_STR, ip=_STR, address=_STR, labels=_LABELS, link=_LINK), "required": ["name"]}
# the names of kube-proxy's own configuration file, as far as they matter here
_KUBE_PROXY = _object(
    mode=_STR, clusterCIDR=_STR, detectLocalMode=_STR, detectLocal=_object(bridgeInterface=_STR, interfaceNamePrefix=_STR),
    nodePortAddresses=_STRINGS, bindAddress=_STR,
    iptables=_object(masqueradeAll=_BOOL, masqueradeBit=_INT, localhostNodePorts=_BOOL, minSyncPeriod=_STR,
                     syncPeriod=_STR),
    ipvs=_object(scheduler=_STR, excludeCIDRs=_STRINGS, strictARP=_BOOL),
    nftables=_object(masqueradeAll=_BOOL, masqueradeBit=_INT, minSyncPeriod=_STR, syncPeriod=_STR),
    conntrack=_object(maxPerCore=_INT, min=_INT, tcpEstablishedTimeout=_STR, tcpCloseWaitTimeout=_STR, tcpBeLiberal=_BOOL,
                      udpTimeout=_STR, udpStreamTimeout=_STR),
    latency=_STR,
)

TOPOLOGY_SCHEMA: Obj = {
    **_object(
        apiVersion=_STR, kind=_STR,
        metadata=_object(name=_STR, labels=_LABELS, annotations=_LABELS),
        spec=_object(
            seed=_INT, profile=_STR, kernel=_STR, cniMode=_STR, podCIDR=_STR, serviceCIDR=_STR, nodeCIDR=_STR,
            clusterDomain=_STR, clusterDNS=_STR, kubernetesService=_STR,
            network=_object(cidr=_STR, gateway=_STR), nodes=_list_of(_NODE), links=_ANY, outside=_list_of(_CLIENT), kubeProxy=_KUBE_PROXY,
        ),
    ),
    "required": ["spec"],
}
