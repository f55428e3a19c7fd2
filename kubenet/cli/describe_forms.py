"""How each kind is described: Pods, Services, workloads, Nodes, EndpointSlices; and the plain form of all other kinds.

FORMS[kind](page, kube, obj) fills a page. Labels and order are those of `kubectl describe`; what a lab has no use for (QoS class,
host ports, prometheus-like counters) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kubenet.cli.kube import Kube
from kubenet.cli.page import NONE, Obj, Page, pairs
from kubenet.cluster.api.kinds import KINDS


def _meta(page: Page, obj: Obj) -> None:
    page.fields("Labels", pairs(obj["metadata"].get("labels")))
    page.fields("Annotations", pairs(obj["metadata"].get("annotations"), ": "))


def _controller(obj: Obj) -> str:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or [] if o.get("controller")), None)
    return f"{owner['kind']}/{owner['name']}" if owner else ""


# -- pods -------------------------------------------------------------------------------------------------------------------


def _pod(page: Page, kube: Kube, pod: Obj) -> None:
    spec, status = pod["spec"], pod.get("status") or {}
    page.field("Service Account", spec.get("serviceAccountName", "default"))
    node = spec.get("nodeName")
    page.field("Node", f"{node}/{status.get('hostIP', '')}" if node else NONE)
    page.field("Start Time", status.get("startTime"))
    _meta(page, pod)
    ends = pod["metadata"].get("deletionTimestamp")
    page.field("Status", f"Terminating (until {ends})" if ends else status.get("phase"))
    for key in ("reason", "message"):
        if status.get(key):
            page.field(key.capitalize(), status[key])
    page.field("IP", status.get("podIP"))
    if _controller(pod):
        page.field("Controlled By", _controller(pod))
    for label, containers, states in (("Init Containers", "initContainers", "initContainerStatuses"),
                                      ("Containers", "containers", "containerStatuses")):
        if spec.get(containers):
            found = {s["name"]: s for s in status.get(states) or []}
            page.block(label, [line for c in spec[containers] for line in _container(c, found.get(c["name"], {}))])
    conditions = status.get("conditions") or []
    columns = ("type", "status", *(["reason"] if any(c.get("reason") for c in conditions) else []))
    rows = [[c.get(name, "") for name in columns] for c in conditions]
    page.table("Conditions", [[name.capitalize() for name in columns], *rows])
    page.block("Volumes", [line for v in spec.get("volumes") or [] for line in _volume(v)] or [NONE])
    page.fields("Node-Selectors", pairs(spec.get("nodeSelector")))
    page.fields("Tolerations", [_toleration(t) for t in spec.get("tolerations") or []])


def _container(container: Obj, status: Obj) -> list[str]:
    rows: list[tuple[str, str]] = [("Container ID", status.get("containerID", "")), ("Image", container.get("image", ""))]
    ports = container.get("ports") or []
    rows.append(("Port" if len(ports) < 2 else "Ports", ", ".join(_port(p) for p in ports)))
    for label, key in (("Command", "command"), ("Args", "args")):
        if container.get(key):
            rows.append((label, " ".join(container[key])))
    rows += _state("State", status.get("state") or {})
    if status.get("lastState"):
        rows += _state("Last State", status["lastState"])
    rows += [("Ready", str(bool(status.get("ready")))), ("Restart Count", str(status.get("restartCount", 0)))]
    for label, key in (("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")):
        if container.get(key):
            rows.append((label, _probe(container[key])))
    rows += _several("Environment", [_variable(e) for e in container.get("env") or []])
    rows += _several("Mounts", [f"{m['mountPath']} from {m['name']} ({'ro' if m.get('readOnly') else 'rw'})"
                                for m in container.get("volumeMounts") or []])
    width = max(len(label) for label, _ in rows) + 3
    return [f"{container['name']}:", *(f"  {(label + ':') if label else '':{width}}{text or NONE}" for label, text in rows)]


def _port(port: Obj) -> str:
    return f"{port['containerPort']}/{port.get('protocol', 'TCP')}" + (f" ({port['name']})" if port.get("name") else "")


def _several(label: str, texts: list[str]) -> list[tuple[str, str]]:
    return [(label if at == 0 else "", text) for at, text in enumerate(texts or [NONE])]


def _state(label: str, state: Obj) -> list[tuple[str, str]]:
    name, detail = next(((k, v) for k, v in state.items()), ("waiting", dict[str, Any]()))
    rows = [(label, name.capitalize())]
    for key, head in (("reason", "Reason"), ("message", "Message"), ("exitCode", "Exit Code"), ("startedAt", "Started"),
                      ("finishedAt", "Finished")):
        if detail.get(key) not in (None, ""):
            rows.append(("  " + head, str(detail[key])))
    return rows


def _probe(probe: Obj) -> str:
    how = next((k for k in ("httpGet", "tcpSocket", "exec", "grpc") if k in probe), "")
    what = probe.get(how) or {}
    if how == "httpGet":
        scheme = str(what.get("scheme", "HTTP")).lower()
        text = f"http-get {scheme}://{what.get('host', '')}:{what.get('port')}{what.get('path', '/')}"
    elif how == "exec":
        text = f"exec {what.get('command')}"
    else:
        text = f"{'tcp-socket' if how == 'tcpSocket' else how} :{what.get('port')}"
    return (f"{text} delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
            f"period={probe.get('periodSeconds', 10)}s #success={probe.get('successThreshold', 1)} "
            f"#failure={probe.get('failureThreshold', 3)}")


def _variable(variable: Obj) -> str:
    source = variable.get("valueFrom")
    if not source:
        return f"{variable['name']}: {variable.get('value', '')}"
    how, what = next(iter(source.items()))
    named = f" '{what['key']}' of '{what.get('name')}'" if "key" in what else f" {what.get('fieldPath', '')}"
    return f"{variable['name']}: <{how}{named}>"


def _volume(volume: Obj) -> list[str]:
    how = next((k for k in volume if k != "name"), "emptyDir")
    details = {k: v for k, v in (volume.get(how) or {}).items() if not isinstance(v, (dict, list))}
    return [f"{volume['name']}:", f"  Type:  {how}", *(f"  {k}:  {v}" for k, v in details.items())]


def _toleration(toleration: Obj) -> str:
    key = toleration.get("key", "")
    text = f"{key}={toleration['value']}" if toleration.get("value") else key
    effect = f":{toleration['effect']}" if toleration.get("effect") else ""
    operator = " op=Exists" if toleration.get("operator") == "Exists" else ""
    seconds = toleration.get("tolerationSeconds")
    return f"{text}{effect}{operator}" + (f" for {seconds}s" if seconds is not None else "")


# -- services and workloads ---------------------------------------------------------------------------------------------------


def _service(page: Page, kube: Kube, service: Obj) -> None:
    spec = service["spec"]
    _meta(page, service)
    page.field("Selector", ",".join(pairs(spec.get("selector"))))
    page.field("Type", spec.get("type", "ClusterIP"))
    page.field("IP Families", ",".join(spec.get("ipFamilies") or []))
    page.field("IP", spec.get("clusterIP"))
    if spec.get("externalIPs"):
        page.field("External IPs", ",".join(spec["externalIPs"]))
    if spec.get("externalName"):
        page.field("External Name", spec["externalName"])
    slices = _slices(kube, service)
    for port in spec.get("ports") or []:
        name = port.get("name") or "<unset>"
        page.field("Port", f"{name}  {port['port']}/{port.get('protocol', 'TCP')}")
        page.field("TargetPort", f"{port.get('targetPort')}/{port.get('protocol', 'TCP')}")
        if port.get("nodePort"):
            page.field("NodePort", f"{name}  {port['nodePort']}/{port.get('protocol', 'TCP')}")
        page.field("Endpoints", ",".join(endpoints(slices, port.get("name", ""))))
    page.field("Session Affinity", spec.get("sessionAffinity", "None"))
    for side in ("external", "internal"):
        if spec.get(f"{side}TrafficPolicy"):
            page.field(f"{side.capitalize()} Traffic Policy", spec[f"{side}TrafficPolicy"])


def _slices(kube: Kube, service: Obj) -> list[Obj]:
    meta = service["metadata"]
    label = f"kubernetes.io/service-name={meta['name']}"
    found: list[Obj] = kube.list(KINDS["EndpointSlice"], meta["namespace"], labels=label)["items"]
    return found


def endpoints(slices: list[Obj], port_name: str) -> list[str]:
    """`ip:port` of the ready endpoints behind one port of a Service."""
    out: list[str] = []
    for each in slices:
        for port in each.get("ports") or []:
            if (port.get("name") or "") == port_name:
                for endpoint in each.get("endpoints") or []:
                    if (endpoint.get("conditions") or {}).get("ready", True) is not False:
                        out += [f"{address}:{port.get('port')}" for address in endpoint["addresses"]]
    return sorted(out)


def _endpoint_slice(page: Page, kube: Kube, obj: Obj) -> None:
    _meta(page, obj)
    page.field("AddressType", obj.get("addressType"))
    page.table("Ports", [["Name", "Port", "Protocol"], *([p.get("name") or "<unset>", p.get("port"), p.get("protocol", "TCP")]
                                                         for p in obj.get("ports") or [])])
    rows: list[list[Any]] = [["Addresses", "Ready", "Serving", "Terminating", "Target", "Node"]]
    for e in obj.get("endpoints") or []:
        conditions, target = e.get("conditions") or {}, e.get("targetRef") or {}
        states = [str(conditions.get(k, "<unset>")).lower() for k in ("ready", "serving", "terminating")]
        rows.append([",".join(e["addresses"]), *states, f"{target.get('kind')}/{target.get('name')}" if target else NONE,
                     e.get("nodeName") or NONE])
    page.table("Endpoints", rows)


def _workload(page: Page, kube: Kube, obj: Obj) -> None:
    spec, status = obj["spec"], obj.get("status") or {}
    page.field("CreationTimestamp", obj["metadata"].get("creationTimestamp"))
    _meta(page, obj)
    page.field("Selector", ",".join(pairs((spec.get("selector") or {}).get("matchLabels"))))
    if obj["kind"] == "Deployment":
        page.field("Replicas", f"{spec.get('replicas', 1)} desired | {status.get('updatedReplicas', 0)} updated | "
                               f"{status.get('replicas', 0)} total | {status.get('availableReplicas', 0)} available | "
                               f"{status.get('unavailableReplicas', 0)} unavailable")
        strategy = spec.get("strategy") or {}
        page.field("StrategyType", strategy.get("type"))
        rolling = strategy.get("rollingUpdate")
        if rolling:
            page.field("RollingUpdateStrategy",
                       f"{rolling.get('maxUnavailable')} max unavailable, {rolling.get('maxSurge')} max surge")
    else:
        page.field("Replicas", f"{status.get('replicas', 0)} current / {spec.get('replicas', 1)} desired")
        page.field("Pods Ready", status.get("readyReplicas", 0))
    if _controller(obj):
        page.field("Controlled By", _controller(obj))
    template = spec.get("template") or {}
    lines = [f"Labels:  {','.join(pairs((template.get('metadata') or {}).get('labels'))) or NONE}", "Containers:"]
    for container in (template.get("spec") or {}).get("containers") or []:
        lines += ["  " + line for line in _template_container(container)]
    page.block("Pod Template", lines)
    conditions = status.get("conditions") or []
    if conditions:
        rows = [[c["type"], c["status"], c.get("reason", "")] for c in conditions]
        page.table("Conditions", [["Type", "Status", "Reason"], *rows])
    if obj["kind"] == "Deployment":
        page.fields("ReplicaSets", [_replicas(each) for each in _owned(kube, "ReplicaSet", obj)])


def _replicas(replica_set: Obj) -> str:
    made = (replica_set.get("status") or {}).get("replicas", 0)
    return f"{replica_set['metadata']['name']} ({made}/{replica_set['spec'].get('replicas', 0)} replicas created)"


def _template_container(container: Obj) -> list[str]:
    """A container of a template: what is known before it runs."""
    runtime = ("State", "Ready", "Restart Count", "Container ID")
    return [line for line in _container(container, {}) if not line.strip().startswith(tuple(f"{r}:" for r in runtime))]


def _owned(kube: Kube, kind: str, owner: Obj) -> list[Obj]:
    """The objects of a kind that `owner` controls."""
    uid = owner["metadata"].get("uid")
    return [o for o in kube.list(KINDS[kind], owner["metadata"]["namespace"])["items"]
            if any(r.get("uid") == uid for r in o["metadata"].get("ownerReferences") or [])]


def _node(page: Page, kube: Kube, node: Obj) -> None:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    _meta(page, node)
    page.field("CreationTimestamp", node["metadata"].get("creationTimestamp"))
    page.fields("Taints", [f"{t['key']}{'=' if t.get('value') else ''}{t.get('value', '')}:{t['effect']}"
                           for t in spec.get("taints") or []])
    page.field("Unschedulable", str(bool(spec.get("unschedulable"))).lower())
    conditions = [[c["type"], c["status"], c.get("reason", ""), c.get("message", "")] for c in status.get("conditions") or []]
    page.table("Conditions", [["Type", "Status", "Reason", "Message"], *conditions])
    page.facts("Addresses", [(a["type"], a["address"]) for a in status.get("addresses") or []])
    for label, key in (("Capacity", "capacity"), ("Allocatable", "allocatable")):
        page.facts(label, sorted((status.get(key) or {}).items()))
    page.facts("System Info", (status.get("nodeInfo") or {}).items())
    page.field("PodCIDR", spec.get("podCIDR"))
    pods = kube.list(KINDS["Pod"], "", fields=f"spec.nodeName={node['metadata']['name']}")["items"]
    rows = [[p["metadata"]["namespace"], p["metadata"]["name"], (p.get("status") or {}).get("podIP", "")] for p in pods]
    page.table(f"Pods ({len(pods)} in total)", [["Namespace", "Name", "IP"], *rows])


def _plain(page: Page, kube: Kube, obj: Obj) -> None:
    """Any other kind: its fields as YAML without the library."""
    _meta(page, obj)
    for key, value in obj.items():
        if key in ("apiVersion", "kind", "metadata"):
            continue
        if isinstance(value, (dict, list)):
            page.block(key[:1].upper() + key[1:], list(_outline(value)) or [NONE])
        else:
            page.field(key[:1].upper() + key[1:], value)


def _outline(value: Any) -> Iterable[str]:
    """Nested fields, indented."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, (dict, list)) and inner:
                yield f"{key}:"
                yield from ("  " + line for line in _outline(inner))
            elif isinstance(inner, str) and "\n" in inner:
                yield f"{key}:"
                yield from ("  " + line for line in inner.rstrip("\n").split("\n"))
            else:
                yield f"{key}: {inner if inner not in ({}, [], None) else NONE}"
    elif isinstance(value, list):
        for item in value:
            lines = list(_outline(item)) if isinstance(item, (dict, list)) else [str(item)]
            yield from (("- " if at == 0 else "  ") + line for at, line in enumerate(lines))
    else:
        yield str(value)


FORMS: dict[str, Callable[[Page, Kube, Obj], None]] = {
    "Pod": _pod, "Service": _service, "Deployment": _workload, "ReplicaSet": _workload, "StatefulSet": _workload,
    "Node": _node, "EndpointSlice": _endpoint_slice,
}


def form(kind: str) -> Callable[[Page, Kube, Obj], None]:
    """The form of a kind."""
    return FORMS.get(kind, _plain)
