"""What happens to a valid body between the client and the store, beyond defaults: allocation and identity.

    complete_create(admission, obj)             complete_update(admission, obj, old)

Services get cluster IPs and node ports here, at admission, as in the real API server, so that `create` answers with the
address. Pods get their service account and the tolerations every pod has; Jobs get the selector that names their uid.
Both functions change obj, which is the caller's own copy, and run defaults.py first.

The allocator is rebuilt from the store's writes (`Admission` listens to them), so whoever writes a Service, and
however it goes away, the books are right.

simplified: single-stack IPv4, no ranges object in the store, no quota, no webhooks.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api import defaults
from kubenet.cluster.api.kinds import KINDS
from kubenet.cluster.api.status import ApiError, FieldErrors, forbidden, invalid, not_found
from kubenet.cluster.ipam import NODE_PORTS, PoolFull, ServiceAllocator
from kubenet.cluster.store import DELETED, Event, Store
from kubenet.sim.rng import keyed

Obj = dict[str, Any]

POD_TOLERATIONS: list[Obj] = [
    {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300},
    {"effect": "NoExecute", "key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300},
]


class Admission:
    """The state admission needs: the store to look things up in, and the books of Service addresses."""

    def __init__(self, store: Store, service_cidr: str = "10.96.0.0/16") -> None:
        self.store = store
        self.services = ServiceAllocator(service_cidr, NODE_PORTS, lambda name: keyed(store.seed, "service", name))
        for service in store.iter("Service"):
            self.book(service)
        store.on_write(self._written)

    def _written(self, event: Event) -> None:
        if event.obj["kind"] != "Service":
            return
        if event.type == DELETED:
            self.services.release(_owner(event.obj))
        elif event.old is None or event.old["spec"] is not event.obj["spec"]:
            self.book(event.obj)

    def book(self, service: Obj) -> None:
        """The allocator's view of one stored Service: it holds exactly what its spec says."""
        owner, spec = _owner(service), service.get("spec", {})
        ip = spec.get("clusterIP", "")
        ports = [(p.get("protocol", "TCP"), p["nodePort"]) for p in spec.get("ports", ()) if p.get("nodePort")]
        self.services.release(owner, ip, ports)
        if ip and ip != "None":
            self.services.take_ip(ip, owner)
        for protocol, port in ports:
            self.services.take_port(port, protocol, owner)

    def check_namespace(self, kind: str, obj: Obj) -> None:
        """ApiError 404 if the namespace does not exist, 403 if it is being deleted."""
        info = KINDS[kind]
        name = obj["metadata"].get("namespace", "")
        if not info.namespaced:
            return
        namespace = self.store.get("Namespace", ("", name))
        if namespace is None:
            raise not_found(KINDS["Namespace"], name)
        if "deletionTimestamp" in namespace["metadata"]:
            why = f"unable to create new content in namespace {name} because it is being terminated"
            error = forbidden(info, obj["metadata"].get("name", ""), why)
            text = f"namespace {name} is being terminated"
            assert error.details is not None
            error.details["causes"] = [
                {"reason": "NamespaceTerminating", "message": text, "field": "metadata.namespace"}]
            raise error


def _owner(obj: Obj) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def complete_create(adm: Admission, obj: Obj) -> None:
    """obj ready to be validated and stored as a new object."""
    kind = obj["kind"]
    adm.check_namespace(kind, obj)
    meta = obj["metadata"]
    for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp"):
        meta.pop(field, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = adm.store.new_name(kind, meta.get("namespace", ""), meta["generateName"])
    if KINDS[kind].status and kind != "Node":
        obj.pop("status", None)                            # a new object has no past; simplified: nodes register with theirs
    defaults.apply_defaults(obj)
    if kind == "Pod":
        complete_pod(obj)
    elif kind == "Job":
        _job_selector(adm, obj)
    elif kind == "Service":
        allocate_service(adm, obj, None)


def complete_update(adm: Admission, obj: Obj, old: Obj) -> None:
    """obj ready to be validated and stored over old."""
    if KINDS[obj["kind"]].status and "status" in old:
        obj["status"] = old["status"]
    defaults.apply_defaults(obj)
    if KINDS[obj["kind"]].status and "status" in old:
        obj["status"] = old["status"]
    if obj["kind"] == "Service":
        allocate_service(adm, obj, old)


def complete_pod(pod: Obj) -> None:
    """A pod as the admission plugins leave it: service account, tolerations, priority."""
    spec = pod["spec"]
    if not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"] = "default"
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    have = spec.get("tolerations") or []
    evicting = [t for t in have if t.get("effect") in (None, "", "NoExecute")]
    keys = [t.get("key") for t in evicting]
    everything = any(not t.get("key") and t.get("operator") == "Exists" for t in evicting)
    missing = [] if everything else [dict(t) for t in POD_TOLERATIONS if t["key"] not in keys]
    if have or missing:
        spec["tolerations"] = [*have, *missing]


def _job_selector(adm: Admission, job: Obj) -> None:
    """A Job selects its pods by its own uid, so that two Jobs with equal labels never share pods."""
    spec, meta = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return
    meta["uid"] = adm.store.new_uid("Job", (meta.get("namespace", ""), meta.get("name", "")))
    labels = spec["template"]["metadata"].setdefault("labels", {}) if isinstance(spec.get("template"), dict) else {}
    labels["batch.kubernetes.io/controller-uid"] = labels["controller-uid"] = meta["uid"]
    labels["batch.kubernetes.io/job-name"] = labels["job-name"] = meta.get("name", "")
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}}


# -- services ---------------------------------------------------------------------------------------------------------


def allocate_service(adm: Admission, svc: Obj, old: Obj | None) -> None:
    """Cluster IP and node ports are in the spec, kept from before where the client left them out. ApiError 422."""
    spec = svc["spec"]
    before = old["spec"] if old else {}
    kind = spec.get("type")
    if old is not None:
        _keep_allocated(spec, before)
        _drop_needless(spec, before)
    if kind == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            spec.pop(field, None)
        if spec.get("clusterIP") == before.get("clusterIP"):
            spec.pop("clusterIP", None)
    elif kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        _cluster_ip(adm, svc, before)
    _node_ports(adm, svc, before)


def _keep_allocated(spec: Obj, before: Obj) -> None:
    """Kubernetes: patchAllocatedValues(); what an update leaves out and still needs stays."""
    if before.get("type") != "ExternalName" and spec.get("type") != "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(field) and before.get(field):
                spec[field] = before[field]
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        had = {(p.get("protocol"), p["port"]): p["nodePort"] for p in before.get("ports", ()) if p.get("nodePort")}
        taken = {p.get("nodePort") for p in spec.get("ports", ())}
        for p in spec.get("ports", ()):
            port = had.get((p.get("protocol"), p.get("port")))
            if not p.get("nodePort") and port and port not in taken:
                p["nodePort"] = port
    if spec.get("externalTrafficPolicy") == "Local" and before.get("healthCheckNodePort"):
        spec.setdefault("healthCheckNodePort", before["healthCheckNodePort"])


def _drop_needless(spec: Obj, before: Obj) -> None:
    """Fields the new type has no use for go, if the client only left them standing. Kubernetes: dropTypeDependentFields()."""
    external = spec.get("type") in ("NodePort", "LoadBalancer")
    for field, needed in (
        ("externalTrafficPolicy", external or bool(spec.get("externalIPs"))),
        ("allocateLoadBalancerNodePorts", spec.get("type") == "LoadBalancer"),
        ("loadBalancerClass", spec.get("type") == "LoadBalancer"),
    ):
        if not needed and field in spec and spec[field] == before.get(field):
            del spec[field]


def _cluster_ip(adm: Admission, svc: Obj, before: Obj) -> None:
    spec, owner = svc["spec"], _owner(svc)
    ips = spec.get("clusterIPs")
    had = before.get("clusterIP") if before.get("type") != "ExternalName" else ""
    if had and spec.get("clusterIP") != had:
        if ips == before.get("clusterIPs"):                 # only the singular was changed: it speaks for both
            spec["clusterIPs"] = [spec["clusterIP"]]
        return                                              # validation refuses the change
    ip = spec.get("clusterIP") or (ips[0] if ips else "")
    if ips and spec.get("clusterIP") and ips[0] != spec["clusterIP"]:
        raise _refuse(svc, "spec.clusterIPs", [ips[0]], "first value must match `clusterIP`")
    if ip == "":
        try:
            ip = adm.services.new_ip(owner)
        except PoolFull as full:
            raise ApiError(500, "InternalError", f"Internal error occurred: {full}") from None
    elif ip != "None":
        _claim_ip(adm, svc, ip, owner)
    spec["clusterIP"] = ip
    spec["clusterIPs"] = [ip]
    if ip == "None" and not spec.get("selector"):
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "RequireDualStack" if spec.get("ipFamilyPolicy") else "SingleStack")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _claim_ip(adm: Admission, svc: Obj, ip: str, owner: str) -> None:
    try:
        inside = adm.services.in_range(ip)
    except ValueError:
        return                                              # validation says it better
    if not inside:
        raise _refuse(svc, "spec.clusterIPs", [ip], f"failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid "
                      f"range. The range of valid IPs is {adm.services.cidr}")
    if not adm.services.take_ip(ip, owner):
        raise _refuse(svc, "spec.clusterIPs", [ip], f"failed to allocate IP {ip}: provided IP is already allocated")


def _node_ports(adm: Admission, svc: Obj, before: Obj) -> None:
    spec, owner = svc["spec"], _owner(svc)
    kind = spec.get("type")
    wants = kind == "NodePort" or kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
    had = {p.get("nodePort") for p in before.get("ports", ())}
    for at, p in enumerate(spec.get("ports", ())):
        if not isinstance(p.get("port"), int) or p.get("protocol") not in adm.services.ports:
            continue
        if kind not in ("NodePort", "LoadBalancer"):
            if p.get("nodePort") in had:
                p.pop("nodePort", None)                     # the type no longer needs it: wiped
        elif p.get("nodePort"):
            _claim_port(adm, svc, at, p, owner)
        elif wants:
            _draw_port(adm, svc, p, owner)
    if kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
        if not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = adm.services.new_port(owner, "TCP", "healthcheck", [])
    else:
        spec.pop("healthCheckNodePort", None)


def _claim_port(adm: Admission, svc: Obj, at: int, p: Obj, owner: str) -> None:
    port, low, high = p["nodePort"], *NODE_PORTS
    field = f"spec.ports[{at}].nodePort"
    if not low <= port <= high:
        raise _refuse(svc, field, port, f"provided port is not in the valid range. The range of valid ports is {low}-{high}")
    if not adm.services.take_port(port, p["protocol"], owner):
        raise _refuse(svc, field, port, "provided port is already allocated")


def _draw_port(adm: Admission, svc: Obj, p: Obj, owner: str) -> None:
    """The same number for TCP and UDP of one port (DNS), else a fresh one."""
    twins = [q["nodePort"] for q in svc["spec"]["ports"] if q is not p and q.get("port") == p["port"] and q.get("nodePort")
             and q.get("protocol") != p["protocol"]]
    if twins and adm.services.take_port(twins[0], p["protocol"], owner):
        p["nodePort"] = twins[0]
        return
    others = [q["protocol"] for q in svc["spec"]["ports"] if q is not p and q.get("port") == p["port"]]
    try:
        p["nodePort"] = adm.services.new_port(owner, p["protocol"], p.get("name", "") or str(p["port"]), others)
    except PoolFull as full:
        raise ApiError(500, "InternalError", f"Internal error occurred: {full}") from None


def _refuse(svc: Obj, field: str, value: Any, detail: str) -> ApiError:
    errors = FieldErrors()
    errors.invalid(field, value, detail)
    return invalid(KINDS["Service"], svc["metadata"]["name"], errors)
