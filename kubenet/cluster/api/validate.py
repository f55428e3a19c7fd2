"""Validation: what the API server refuses, in its own words. One function per kind; all findings are collected.

    validate(info, obj, old) -> FieldErrors           obj is complete (defaults filled in); old is None on create

Texts follow apimachinery's util/validation and pkg/apis/*/validation, because kubectl prints them and people search for
them. What a schema alone can say (unknown fields, wrong types) is schema.py's; missing required fields of lesser
structs arrive here as findings of the schema and are reported as "Required value".

simplified: rules about fields that have no effect here (volumes' sources, security contexts, affinity, resources'
names) are not repeated; such fields are kept as sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubenet.cluster.api.kinds import KindInfo
from kubenet.cluster.api.status import FieldErrors, GoText
from kubenet.cluster.api.validate_workloads import (
    daemonset,
    deployment,
    job,
    label_selector,
    pod,
    replicaset,
    statefulset,
)
from kubenet.cluster.api.words import (
    CONFIG_KEY,
    CONFIG_KEY_TEXT,
    DNS1035,
    DNS1035_KINDS,
    DNS1035_TEXT,
    FINALIZER_TEXT,
    IP_TEXT,
    LABEL,
    LABEL_KINDS,
    LABEL_TEXT,
    SUBDOMAIN,
    SUBDOMAIN_TEXT,
    check_name,
    int_or_name,
    is_ip,
    labels,
    one_of,
    port,
    qualified_name,
)

Obj = dict[str, Any]


def validate(info: KindInfo, obj: Obj, old: Obj | None, missing: list[str] | None = None) -> FieldErrors:
    """Everything wrong with an object about to be stored; `missing` are required fields the schema did not find."""
    errs = FieldErrors()
    metadata(info, obj["metadata"], errs)
    for field in missing or ():
        if not field.startswith(("status.", "metadata.")):
            errs.required(field)
    check = _CHECKS.get(obj["kind"])
    if check is not None:
        check(obj, old, errs)
    found = dict.fromkeys(errs.found)
    required = {f for r, f, _ in found if r == "FieldValueRequired"}
    errs.found = [e for e in found if not (e[1] in required and e[0] == "FieldValueInvalid")]
    return errs


def metadata(info: KindInfo, meta: Obj, errs: FieldErrors) -> None:
    name = meta.get("name")
    if not name and not meta.get("generateName"):
        errs.required("metadata.name", "name or generateName is required")
    elif name:
        if info.kind in DNS1035_KINDS:
            check_name(errs, "metadata.name", name, DNS1035, DNS1035_TEXT)
        elif info.kind in LABEL_KINDS:
            check_name(errs, "metadata.name", name, LABEL, LABEL_TEXT)
        elif info.group != "rbac.authorization.k8s.io":
            check_name(errs, "metadata.name", name, SUBDOMAIN, SUBDOMAIN_TEXT, 253)
        elif "/" in name or "%" in name:
            errs.invalid("metadata.name", name, f"may not contain '{'/' if '/' in name else '%'}'")
    labels(errs, "metadata.labels", meta.get("labels"))
    for key in meta.get("annotations") or {}:
        qualified_name(errs, "metadata.annotations", key.lower())
    for at, ref in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not ref.get(field):
                errs.invalid(f"metadata.ownerReferences[{at}].{field}", ref.get(field, ""), "must not be empty")
    for at, finalizer in enumerate(meta.get("finalizers") or []):
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion", "kubernetes"):
            errs.invalid(f"metadata.finalizers[{at}]", finalizer, FINALIZER_TEXT)


# -- services and the network -----------------------------------------------------------------------------------------

SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def service(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    spec = obj.get("spec", {})
    kind = spec.get("type")
    headless = spec.get("clusterIP") == "None"
    one_of(errs, "spec.type", kind, SERVICE_TYPES)
    if not spec.get("ports") and not headless and kind != "ExternalName":
        errs.required("spec.ports")
    if kind == "ExternalName":
        _external_name(spec, errs)
    if kind in ("NodePort", "LoadBalancer") and headless:
        errs.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    _service_ports(spec, headless, errs)
    labels(errs, "spec.selector", spec.get("selector"))
    one_of(errs, "spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= 86400:
        errs.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout,
                     "must be greater than 0 and less than 86400")
    ip = spec.get("clusterIP")
    if ip and not headless and not is_ip(ip):
        errs.invalid("spec.clusterIPs[0]", ip, IP_TEXT)
    for at, external in enumerate(spec.get("externalIPs") or []):
        if not is_ip(external):
            errs.invalid(f"spec.externalIPs[{at}]", external, IP_TEXT)
        elif external.startswith("127.") or external in ("0.0.0.0", "::1", "::"):
            errs.invalid(f"spec.externalIPs[{at}]", external, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    _policies(spec, kind, errs)
    if old is not None:
        _service_update(spec, old["spec"], errs)


def _external_name(spec: Obj, errs: FieldErrors) -> None:
    if spec.get("clusterIP"):
        errs.forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'")
    if not spec.get("externalName"):
        errs.required("spec.externalName")
    else:
        check_name(errs, "spec.externalName", spec["externalName"].rstrip("."), SUBDOMAIN, SUBDOMAIN_TEXT, 253)


def _service_ports(spec: Obj, headless: bool, errs: FieldErrors) -> None:
    ports = spec.get("ports") or []
    names: dict[str, None] = {}
    numbers: dict[tuple[Any, Any], None] = {}
    for at, p in enumerate(ports):
        where = f"spec.ports[{at}]"
        name = p.get("name", "")
        if len(ports) > 1 and not name:
            errs.required(f"{where}.name")
        elif name:
            check_name(errs, f"{where}.name", name, LABEL, LABEL_TEXT)
            if name in names:
                errs.duplicate(f"{where}.name", name)
            names[name] = None
        port(errs, f"{where}.port", p.get("port", 0))
        one_of(errs, f"{where}.protocol", p.get("protocol"), ("SCTP", "TCP", "UDP"))
        int_or_name(errs, f"{where}.targetPort", p.get("targetPort", p.get("port", 0)))
        if p.get("nodePort"):
            port(errs, f"{where}.nodePort", p["nodePort"])
            if spec.get("type") not in ("NodePort", "LoadBalancer"):
                errs.forbidden(f"{where}.nodePort", f"may not be used when `type` is '{spec.get('type')}'")
        key = (p.get("protocol"), p.get("port"))
        if key in numbers:
            errs.found.append(("FieldValueDuplicate", where, "Duplicate value: " + str(
                GoText(f'core.ServicePort{{Name:"", Protocol:"{key[0]}", Port:{key[1]}}}'))))
        numbers[key] = None


def _policies(spec: Obj, kind: Any, errs: FieldErrors) -> None:
    one_of(errs, "spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), ("Cluster", "Local"))
    policy = spec.get("externalTrafficPolicy")
    if policy is not None:
        if kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
            errs.invalid("spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services")
        one_of(errs, "spec.externalTrafficPolicy", policy, ("Cluster", "Local"))
    if spec.get("loadBalancerSourceRanges") and kind != "LoadBalancer":
        errs.forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    one_of(errs, "spec.trafficDistribution", spec.get("trafficDistribution"), ("PreferClose",))


def _service_update(spec: Obj, before: Obj, errs: FieldErrors) -> None:
    ip, was = spec.get("clusterIP"), before.get("clusterIP")
    if was and was != ip and before.get("type") != "ExternalName" and spec.get("type") != "ExternalName":
        errs.invalid("spec.clusterIPs[0]", [ip or ""], "may not change once set")


def endpoint_slice(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    kind = obj.get("addressType")
    if kind not in ("IPv4", "IPv6", "FQDN"):
        errs.unsupported("addressType", kind or "", ["FQDN", "IPv4", "IPv6"]) if kind else errs.required("addressType")
    if len(obj.get("endpoints") or []) > 1000:
        errs.found.append(("FieldValueTooMany", "endpoints", f"Too many: {len(obj['endpoints'])}: must have at most 1000 items"))
    for at, endpoint in enumerate(obj.get("endpoints") or []):
        if not endpoint.get("addresses"):
            errs.required(f"endpoints[{at}].addresses", "must contain at least 1 address")
        for i, address in enumerate(endpoint.get("addresses") or []):
            if kind in ("IPv4", "IPv6") and (not is_ip(address) or (":" in address) != (kind == "IPv6")):
                errs.invalid(f"endpoints[{at}].addresses[{i}]", address, f"must be a valid {kind} address")
    for at, p in enumerate(obj.get("ports") or []):
        port(errs, f"ports[{at}].port", p.get("port"))
        one_of(errs, f"ports[{at}].protocol", p.get("protocol"), ("TCP", "UDP", "SCTP"))
    if old is not None and old.get("addressType") != kind:
        errs.immutable("addressType", kind)


def endpoints(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    for i, subset in enumerate(obj.get("subsets") or []):
        for field in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(field) or []):
                if not is_ip(address.get("ip")):
                    errs.invalid(f"subsets[{i}].{field}[{j}].ip", address.get("ip", ""), IP_TEXT)
        for j, p in enumerate(subset.get("ports") or []):
            port(errs, f"subsets[{i}].ports[{j}].port", p.get("port", 0))


def network_policy(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    spec = obj.get("spec", {})
    label_selector(errs, "spec.podSelector", spec.get("podSelector") or {})
    for at, kind in enumerate(spec.get("policyTypes") or []):
        one_of(errs, f"spec.policyTypes[{at}]", kind, ("Egress", "Ingress"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or []):
            for j, p in enumerate(rule.get("ports") or []):
                if p.get("port") is not None:
                    int_or_name(errs, f"spec.{direction}[{i}].ports[{j}].port", p["port"])
            for j, peer in enumerate(rule.get(peers) or []):
                if not peer:
                    errs.required(f"spec.{direction}[{i}].{peers}[{j}]", "must specify a peer")


# -- configuration ----------------------------------------------------------------------------------------------------


def config_map(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _keys(errs, obj, ("data", "binaryData"))
    if old is not None and old.get("immutable"):
        for field in ("immutable", "data", "binaryData"):
            if obj.get(field) != old.get(field):
                errs.forbidden(field, "field is immutable when `immutable` is set")


def secret(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _keys(errs, obj, ("data",))
    if old is not None and old.get("type") != obj.get("type"):
        errs.immutable("type", obj.get("type"))


def _keys(errs: FieldErrors, obj: Obj, fields: tuple[str, ...]) -> None:
    for field in fields:
        for key in obj.get(field) or {}:
            if key in (".", "..") or key.startswith(".."):
                errs.invalid(f"{field}[{key}]", key, f"must not {'be' if key in ('.', '..') else 'start with'} '..'")
            check_name(errs, f"{field}[{key}]", key, CONFIG_KEY, CONFIG_KEY_TEXT, 253)


def node(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    spec = obj.get("spec", {})
    for at, taint in enumerate(spec.get("taints") or []):
        qualified_name(errs, f"spec.taints[{at}].key", str(taint.get("key", "")))
        one_of(errs, f"spec.taints[{at}].effect", taint.get("effect"), ("NoSchedule", "PreferNoSchedule", "NoExecute"))
    if old is not None and old.get("spec", {}).get("podCIDR") not in (None, spec.get("podCIDR")):
        errs.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid")


_CHECKS: dict[str, Callable[[Obj, Obj | None, FieldErrors], None]] = {
    "Pod": pod, "Deployment": deployment, "ReplicaSet": replicaset, "StatefulSet": statefulset, "DaemonSet": daemonset,
    "Job": job, "Service": service, "EndpointSlice": endpoint_slice, "Endpoints": endpoints,
    "NetworkPolicy": network_policy, "ConfigMap": config_map, "Secret": secret, "Node": node,
}
