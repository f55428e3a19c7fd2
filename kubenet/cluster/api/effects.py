"""Which fields do something here. Everything else is stored, shown, and warned about: never silently ignored.

The list is positive: a tree of field names per kind. `True` means the field and all below it have their effect; a dict
goes on; a field that is not in the tree has none. Lists are transparent. `unheeded(kind, obj)` names the rest, shortest
path first, and `warning()` makes one sentence of it per object.

The kubelet and the proxy are the ones who give effect; who teaches them a new field adds it here.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api.kinds import KINDS

Obj = dict[str, Any]
Tree = dict[str, Any]

_HANDLER: Tree = {"exec": True, "httpGet": True, "tcpSocket": True, "initialDelaySeconds": True, "timeoutSeconds": True,
                  "periodSeconds": True, "successThreshold": True, "failureThreshold": True,
                  "terminationGracePeriodSeconds": True}
_HOOK: Tree = {"exec": True, "sleep": True, "httpGet": True}
_CONTAINER: Tree = {
    "name": True, "image": True, "command": True, "args": True, "workingDir": True, "env": True, "envFrom": True,
    "ports": {"name": True, "containerPort": True, "protocol": True, "hostPort": True, "hostIP": True},
    "volumeMounts": {"name": True, "mountPath": True, "subPath": True, "subPathExpr": True, "readOnly": True},
    "restartPolicy": True,
    "readinessProbe": _HANDLER, "livenessProbe": _HANDLER, "startupProbe": _HANDLER,
    "lifecycle": {"postStart": _HOOK, "preStop": _HOOK}, "stdin": True, "tty": True,
    "stdinOnce": True, "terminationMessagePath": True, "terminationMessagePolicy": True,
}
_POD: Tree = {
    "containers": _CONTAINER, "initContainers": _CONTAINER,
    "restartPolicy": True, "nodeName": True, "nodeSelector": True, "tolerations": True, "hostNetwork": True,
    "hostname": True, "subdomain": True, "dnsPolicy": True, "dnsConfig": True, "hostAliases": True,
    "terminationGracePeriodSeconds": True, "activeDeadlineSeconds": True, "schedulerName": True, "serviceAccountName": True,
    "serviceAccount": True, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": True}},
    "automountServiceAccountToken": True, "enableServiceLinks": True,
    "volumes": {"name": True, "configMap": True, "secret": True, "emptyDir": {}, "downwardAPI": True,
                "projected": {"defaultMode": True, "sources": {"configMap": True, "secret": True, "downwardAPI": True}}},
    "securityContext": {"sysctls": True},
}
_TEMPLATE: Tree = {"metadata": True, "spec": _POD}

HEEDED: dict[str, Tree] = {
    "Pod": _POD,
    "Service": {
        "type": True, "clusterIP": True, "clusterIPs": True, "ports": {
            "name": True, "port": True, "protocol": True, "targetPort": True, "nodePort": True},
        "selector": True, "sessionAffinity": True, "sessionAffinityConfig": True, "externalIPs": True, "externalName": True,
        "externalTrafficPolicy": True, "internalTrafficPolicy": True, "publishNotReadyAddresses": True,
        "loadBalancerSourceRanges": True, "trafficDistribution": True, "healthCheckNodePort": True,
        "allocateLoadBalancerNodePorts": True, "ipFamilies": True, "ipFamilyPolicy": True,
    },
    "Deployment": {"replicas": True, "selector": True, "template": _TEMPLATE, "strategy": True, "minReadySeconds": True,
                   "revisionHistoryLimit": True, "paused": True, "progressDeadlineSeconds": True},
    "ReplicaSet": {"replicas": True, "selector": True, "template": _TEMPLATE, "minReadySeconds": True},
    "StatefulSet": {"replicas": True, "selector": True, "template": _TEMPLATE, "serviceName": True,
                    "podManagementPolicy": True, "updateStrategy": True, "minReadySeconds": True, "ordinals": True},
    "DaemonSet": {"selector": True, "template": _TEMPLATE, "updateStrategy": {"type": True, "rollingUpdate": {
        "maxUnavailable": True}}, "minReadySeconds": True},
    "Job": {"parallelism": True, "completions": True, "backoffLimit": True, "activeDeadlineSeconds": True, "template": _TEMPLATE,
            "selector": True, "suspend": True, "manualSelector": True, "ttlSecondsAfterFinished": True},
    "Node": {"podCIDR": True, "podCIDRs": True, "taints": True, "unschedulable": True},
    "Namespace": {"finalizers": True},
}


def unheeded(kind: str, obj: Obj) -> list[str]:
    """Paths of fields in the spec, as sent, that have no effect here."""
    tree = HEEDED.get(kind)
    spec = obj.get("spec")
    return list(dict.fromkeys(_walk(tree, spec, "spec"))) if tree is not None and isinstance(spec, dict) else []


def _walk(tree: Tree, value: Any, path: str) -> list[str]:
    if isinstance(value, list):
        return [p for x in value for p in _walk(tree, x, path)]
    out: list[str] = []
    if isinstance(value, dict):
        for name, sub in value.items():
            below = tree.get(name)
            if below is True or sub in (None, {}, []):
                continue
            if isinstance(below, dict):
                out += _walk(below, sub, f"{path}.{name}")
            else:
                out.append(f"{path}.{name}")
    return out


def warnings(kind: str, obj: Obj, old: Obj | None = None) -> list[str]:
    """One sentence for the kind and one for the fields, where there is something to say that `old` did not say before."""
    out = []
    info = KINDS[kind]
    if info.effect:
        out.append(f"{kind} is stored, but has no effect: {info.effect}")
    known = unheeded(kind, old) if old is not None else []
    fields = [path for path in unheeded(kind, obj) if path not in known]
    if fields:
        out.append(f"stored, but without effect here: {', '.join(fields)}")
    return out
