"""Server-side tables: what `kubectl get` prints, column for column.

    table(info, objs, now_s, rv, include) -> the Table object       columns(kind) -> column definitions

Cells are rendered here, ages from virtual time; kubectl only aligns them. Columns with priority 1 appear with `-o
wide`. STATUS of a pod is not a field: it is computed from container states, as printPod() does.
Source: Kubernetes pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.api.kinds import KindInfo
from kubenet.units import SEC, format_age

Obj = dict[str, Any]
Cells = list[Any]
NONE = "<none>"

# "Name|type": type defaults to string; after "|" in the list come the wide columns
_COLUMNS: dict[str, str] = {
    "Pod": "Name Ready Status Restarts Age | IP Node Nominated_Node Readiness_Gates",
    "Service": "Name Type Cluster-IP External-IP Port(s) Age | Selector",
    "Deployment": "Name Ready Up-to-date:integer Available:integer Age | Containers Images Selector",
    "ReplicaSet": "Name Desired:integer Current:integer Ready:integer Age | Containers Images Selector",
    "DaemonSet": "Name Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer Node_Selector Age"
                 " | Containers Images Selector",
    "StatefulSet": "Name Ready Age | Containers Images",
    "Job": "Name Status Completions Duration Age | Containers Images Selector",
    "Node": "Name Status Roles Age Version | Internal-IP External-IP OS-Image Kernel-Version Container-Runtime",
    "Namespace": "Name Status Age",
    "ConfigMap": "Name Data:integer Age",
    "Secret": "Name Type Data:integer Age",
    "Endpoints": "Name Endpoints Age",
    "EndpointSlice": "Name AddressType Ports Endpoints Age",
    "NetworkPolicy": "Name Pod-Selector Age",
    "Ingress": "Name Class Hosts Address Ports Age",
    "IngressClass": "Name Controller Parameters Age",
    "ServiceAccount": "Name Secrets:integer Age",
    "Lease": "Name Holder Age",
    "PodDisruptionBudget": "Name Min_Available Max_Unavailable Allowed_Disruptions:integer Age",
    "RoleBinding": "Name Role Age | Users Groups ServiceAccounts",
    "ClusterRoleBinding": "Name Role Age | Users Groups ServiceAccounts",
}


def columns(kind: str) -> list[Obj]:
    """The column definitions of a kind, in wire order."""
    if kind == "Event":                                   # the one kind whose wide columns are not at the end
        spec = [("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Subobject", 1), ("Source", 1), ("Message", 0),
                ("First Seen", 1), ("Count", 1), ("Name", 1)]
        return [_column(name, "integer" if name == "Count" else "string", wide) for name, wide in spec]
    if kind not in _COLUMNS:
        return [_column("Name", "string", 0), _column("Created At", "date", 0)]
    narrow, _, wide_part = _COLUMNS[kind].partition("|")
    out = []
    for part, wide in ((narrow, 0), (wide_part, 1)):
        for word in part.split():
            name, _, type_ = word.partition(":")
            out.append(_column(name.replace("_", " "), type_ or "string", wide))
    return out


def _column(name: str, type_: str, priority: int) -> Obj:
    return {"name": name, "type": type_, "format": "name" if name == "Name" else "", "description": "",
            "priority": priority}


def table(info: KindInfo, objs: list[Obj], now_s: int, rv: str, include: str = "Metadata", heads: bool = True) -> Obj:
    """The Table of some objects. include: None, Metadata or Object; heads=False leaves the columns out (watch events)."""
    return {
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": rv},
        "columnDefinitions": columns(info.kind) if heads else None,
        "rows": [row(info, obj, now_s, include) for obj in objs],
    }


def row(info: KindInfo, obj: Obj, now_s: int, include: str) -> Obj:
    render = _RENDER.get(info.kind, _other)
    out: Obj = {"cells": render(obj, now_s)}
    if include == "Object":
        out["object"] = obj
    elif include != "None":
        out["object"] = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return out


# -- small things -----------------------------------------------------------------------------------------------------


def seconds_of(timestamp: str | None) -> int | None:
    """Seconds since 1970 of an RFC 3339 time, with or without fractions."""
    if not timestamp:
        return None
    try:
        return int(datetime.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def since(timestamp: str | None, now_s: int) -> str:
    """How long ago, as kubectl prints it."""
    then = seconds_of(timestamp)
    return "<unknown>" if then is None else format_age((now_s - then) * SEC)


def _age(obj: Obj, now_s: int) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now_s)


def _labels_text(labels: dict[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items())) or NONE


def selector_text(selector: Obj | None) -> str:
    """A LabelSelector as kubectl prints it."""
    requirements = selectors.from_label_selector(selector)
    return selectors.label_text(sorted(requirements)) if requirements else NONE


def _containers(template: Obj) -> tuple[str, str]:
    containers = (template.get("spec") or {}).get("containers") or []
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)


def _more(texts: list[str], total: int) -> str:
    """The first three, and how many more there are."""
    if not texts:
        return NONE
    text = ",".join(texts[:3])
    return text + (f" + {total - 3} more..." if total > 3 else "")


# -- pods -------------------------------------------------------------------------------------------------------------


def pod_status(pod: Obj) -> str:
    """The STATUS column: the reason a person wants to read. Kubernetes: printPod()."""
    status = pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    init = _init_reason(pod)
    if init and not _condition(status, "Initialized"):
        reason = init
    else:
        reason = _container_reason(status, reason)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in ("Succeeded", "Failed"):
            return "Terminating"
    return str(reason)


def _condition(status: Obj, type_: str) -> bool:
    return any(c.get("type") == type_ and c.get("status") == "True" for c in status.get("conditions") or ())


def _terminated_reason(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(pod: Obj) -> str:
    """Init:..., while an init container has not finished; else ""."""
    specs = {c["name"]: c for c in pod.get("spec", {}).get("initContainers") or ()}
    for at, c in enumerate((pod.get("status") or {}).get("initContainerStatuses") or ()):
        state = c.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if specs.get(c.get("name"), {}).get("restartPolicy") == "Always" and c.get("started"):
            continue
        if terminated is not None:
            return "Init:" + _terminated_reason(terminated)
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{at}/{len(specs)}"
    return ""


def _container_reason(status: Obj, reason: str) -> str:
    running = False
    for c in reversed(status.get("containerStatuses") or ()):
        state = c.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif "terminated" in state:
            reason = _terminated_reason(state["terminated"])
        elif c.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        return "Running" if _condition(status, "Ready") else "NotReady"
    return reason


def _pod(pod: Obj, now_s: int) -> Cells:
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(1 for c in statuses if c.get("ready") and "running" in (c.get("state") or {}))
    total = len(spec.get("containers") or []) + sum(
        1 for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")
    restarts = sum(c.get("restartCount", 0) for c in statuses)
    ended = [((c.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for c in statuses]
    last = max((t for t in ended if t), default=None)
    gates = spec.get("readinessGates")
    met = sum(1 for g in gates or () if _condition(status, g.get("conditionType", "")))
    return [
        pod["metadata"]["name"], f"{ready}/{total}", pod_status(pod),
        f"{restarts} ({since(last, now_s)} ago)" if restarts and last else str(restarts), _age(pod, now_s),
        status.get("podIP") or NONE, spec.get("nodeName") or NONE, status.get("nominatedNodeName") or NONE,
        f"{met}/{len(gates)}" if gates else NONE,
    ]


# -- services ---------------------------------------------------------------------------------------------------------


def external_ip(service: Obj) -> str:
    """The EXTERNAL-IP column of a Service."""
    spec = service.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    ips = list(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind == "LoadBalancer":
        ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        ips = [i.get("ip") or i.get("hostname", "") for i in ingress] + ips
        return ",".join(ips) or "<pending>"
    return ",".join(ips) or NONE


def _service(service: Obj, now_s: int) -> Cells:
    spec = service.get("spec") or {}
    ports = [
        f"{p['port']}:{p['nodePort']}/{p.get('protocol', 'TCP')}" if p.get("nodePort")
        else f"{p['port']}/{p.get('protocol', 'TCP')}"
        for p in spec.get("ports") or ()
    ]
    return [service["metadata"]["name"], spec.get("type", "ClusterIP"), spec.get("clusterIP") or NONE, external_ip(service),
            ",".join(ports) or NONE, _age(service, now_s), _labels_text(spec.get("selector"))]


def _endpoints(obj: Obj, now_s: int) -> Cells:
    texts, total = [], 0
    for subset in obj.get("subsets") or ():
        for p in subset.get("ports") or [{}]:
            for address in subset.get("addresses") or ():
                total += 1
                texts.append(f"{address['ip']}:{p['port']}" if "port" in p else address["ip"])
    return [obj["metadata"]["name"], _more(texts, total), _age(obj, now_s)]


def _slice(obj: Obj, now_s: int) -> Cells:
    ports = [str(p["port"]) if p.get("port") is not None else "*" for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [obj["metadata"]["name"], obj.get("addressType", ""), _more(ports, len(ports)).replace(NONE, "<unset>"),
            _more(addresses, len(addresses)).replace(NONE, "<unset>"), _age(obj, now_s)]


def _ingress(obj: Obj, now_s: int) -> Cells:
    spec = obj.get("spec") or {}
    hosts = [r["host"] for r in spec.get("rules") or () if r.get("host")]
    lb = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [obj["metadata"]["name"], spec.get("ingressClassName") or NONE, _more(hosts, len(hosts)).replace(NONE, "*"),
            ",".join(i.get("ip") or i.get("hostname", "") for i in lb), "80, 443" if spec.get("tls") else "80",
            _age(obj, now_s)]


# -- workloads --------------------------------------------------------------------------------------------------------


def _deployment(obj: Obj, now_s: int) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [obj["metadata"]["name"], f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
            status.get("updatedReplicas", 0), status.get("availableReplicas", 0), _age(obj, now_s),
            *_containers(spec.get("template") or {}), selector_text(spec.get("selector"))]


def _replicaset(obj: Obj, now_s: int) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [obj["metadata"]["name"], spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0),
            _age(obj, now_s), *_containers(spec.get("template") or {}), selector_text(spec.get("selector"))]


def _daemonset(obj: Obj, now_s: int) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = [status.get(n, 0) for n in ("desiredNumberScheduled", "currentNumberScheduled", "numberReady",
                                         "updatedNumberScheduled", "numberAvailable")]
    template = spec.get("template") or {}
    return [obj["metadata"]["name"], *counts, _labels_text((template.get("spec") or {}).get("nodeSelector")),
            _age(obj, now_s), *_containers(template), selector_text(spec.get("selector"))]


def _statefulset(obj: Obj, now_s: int) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [obj["metadata"]["name"], f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}", _age(obj, now_s),
            *_containers(spec.get("template") or {})]


def job_status(obj: Obj) -> str:
    """The STATUS column of a Job."""
    status = obj.get("status") or {}
    if _condition(status, "Complete"):
        return "Complete"
    if _condition(status, "Failed"):
        return "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if _condition(status, "Suspended"):
        return "Suspended"
    if _condition(status, "FailureTarget"):
        return "FailureTarget"
    return "SuccessCriteriaMet" if _condition(status, "SuccessCriteriaMet") else "Running"


def _job(obj: Obj, now_s: int) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    done = status.get("succeeded", 0)
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        parallel = spec.get("parallelism", 0)
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    duration = ""
    start = seconds_of(status.get("startTime"))
    if start is not None:
        end = seconds_of(status.get("completionTime"))
        duration = format_age(((now_s if end is None else end) - start) * SEC)
    return [obj["metadata"]["name"], job_status(obj), completions, duration, _age(obj, now_s),
            *_containers(spec.get("template") or {}), selector_text(spec.get("selector"))]


# -- the rest ---------------------------------------------------------------------------------------------------------


def _node(obj: Obj, now_s: int) -> Cells:
    status, labels = obj.get("status") or {}, obj["metadata"].get("labels") or {}
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    words = ["Ready" if ready == "True" else "Unknown" if ready is None else "NotReady"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = sorted(k.partition("/")[2] for k in labels if k.startswith("node-role.kubernetes.io/"))
    info = status.get("nodeInfo") or {}
    address = {a.get("type"): a.get("address") for a in reversed(status.get("addresses") or ())}
    unknown = "<unknown>"
    return [obj["metadata"]["name"], ",".join(words), ",".join(roles) or NONE, _age(obj, now_s),
            info.get("kubeletVersion", ""), address.get("InternalIP") or NONE, address.get("ExternalIP") or NONE,
            info.get("osImage") or unknown, info.get("kernelVersion") or unknown,
            info.get("containerRuntimeVersion") or unknown]


def _event(obj: Obj, now_s: int) -> Cells:
    ref = obj.get("involvedObject") or {}
    source = obj.get("source") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or first
    component = source.get("component") or obj.get("reportingComponent", "")
    return [since(last, now_s), obj.get("type", ""), obj.get("reason", ""),
            f"{ref.get('kind', '').lower()}/{ref.get('name', '')}", ref.get("fieldPath", ""),
            f"{component}, {source['host']}" if source.get("host") else component, str(obj.get("message", "")).strip(),
            since(first, now_s), obj.get("count", 1), obj["metadata"]["name"]]


def _namespace(obj: Obj, now_s: int) -> Cells:
    return [obj["metadata"]["name"], (obj.get("status") or {}).get("phase", ""), _age(obj, now_s)]


def _config_map(obj: Obj, now_s: int) -> Cells:
    return [obj["metadata"]["name"], len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj, now_s)]


def _secret(obj: Obj, now_s: int) -> Cells:
    return [obj["metadata"]["name"], obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now_s)]


def _network_policy(obj: Obj, now_s: int) -> Cells:
    selector = (obj.get("spec") or {}).get("podSelector")
    return [obj["metadata"]["name"], selector_text(selector), _age(obj, now_s)]


def _service_account(obj: Obj, now_s: int) -> Cells:
    return [obj["metadata"]["name"], len(obj.get("secrets") or ()), _age(obj, now_s)]


def _lease(obj: Obj, now_s: int) -> Cells:
    return [obj["metadata"]["name"], (obj.get("spec") or {}).get("holderIdentity", ""), _age(obj, now_s)]


def _ingress_class(obj: Obj, now_s: int) -> Cells:
    spec = obj.get("spec") or {}
    params = spec.get("parameters")
    text = f"{params.get('kind')}.{params['apiGroup']}/{params.get('name')}" if params and params.get("apiGroup") else NONE
    return [obj["metadata"]["name"], spec.get("controller", ""), text, _age(obj, now_s)]


def _pdb(obj: Obj, now_s: int) -> Cells:
    spec = obj.get("spec") or {}
    return [obj["metadata"]["name"], str(spec.get("minAvailable", "N/A")), str(spec.get("maxUnavailable", "N/A")),
            (obj.get("status") or {}).get("disruptionsAllowed", 0), _age(obj, now_s)]


def _role_binding(obj: Obj, now_s: int) -> Cells:
    ref = obj.get("roleRef") or {}
    names: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for s in obj.get("subjects") or ():
        text = f"{s.get('namespace', '')}/{s.get('name', '')}" if s.get("kind") == "ServiceAccount" else s.get("name", "")
        names.setdefault(s.get("kind", ""), []).append(text)
    return [obj["metadata"]["name"], f"{ref.get('kind', '')}/{ref.get('name', '')}", _age(obj, now_s),
            *(", ".join(names[k]) for k in ("User", "Group", "ServiceAccount"))]


def _other(obj: Obj, now_s: int) -> Cells:
    return [obj["metadata"]["name"], obj["metadata"].get("creationTimestamp", "")]


_RENDER: dict[str, Callable[[Obj, int], Cells]] = {
    "Pod": _pod, "Service": _service, "Deployment": _deployment, "ReplicaSet": _replicaset, "DaemonSet": _daemonset,
    "StatefulSet": _statefulset, "Job": _job, "Node": _node, "Namespace": _namespace, "ConfigMap": _config_map,
    "Secret": _secret, "Endpoints": _endpoints, "EndpointSlice": _slice, "NetworkPolicy": _network_policy,
    "Ingress": _ingress, "IngressClass": _ingress_class, "Event": _event, "ServiceAccount": _service_account,
    "Lease": _lease, "PodDisruptionBudget": _pdb, "RoleBinding": _role_binding, "ClusterRoleBinding": _role_binding,
}
