"""Validation of pods and of what makes them: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job.

`pod_spec` serves pods and templates alike. Updates of a pod may change little; of a workload, not its selector.
Source: Kubernetes pkg/apis/core/validation, pkg/apis/apps/validation, pkg/apis/batch/validation.
simplified: volumes' sources, security contexts, affinity and resources are kept as sent, without rules of their own.
"""

from __future__ import annotations

import re
from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.api.status import FieldErrors, GoText
from kubenet.cluster.api.words import (
    ENV_NAME,
    ENV_TEXT,
    LABEL,
    LABEL_TEXT,
    POD_UPDATE_TEXT,
    STS_UPDATE_TEXT,
    at_least_zero,
    check_name,
    int_or_name,
    labels,
    one_of,
    port,
    port_name,
    qualified_name,
)

Obj = dict[str, Any]


# -- pods -------------------------------------------------------------------------------------------------------------


def pod(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    pod_spec(obj.get("spec", {}), "spec", errs)
    if old is not None and _frozen_pod(obj["spec"]) != _frozen_pod(old["spec"]):
        errs.forbidden("spec", POD_UPDATE_TEXT)


def _frozen_pod(spec: Obj) -> Obj:
    """The part of a pod's spec that no update may change."""
    out = {k: v for k, v in spec.items()
           if k not in ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "ephemeralContainers",
                        "nodeName", "schedulingGates")}
    for field in ("containers", "initContainers"):
        if field in out:
            out[field] = [{k: v for k, v in c.items() if k != "image"} for c in out[field]]
    return out


def pod_spec(spec: Obj, path: str, errs: FieldErrors, restart: tuple[str, ...] = ("Always", "OnFailure", "Never")) -> None:
    volumes = _volumes(spec, path, errs)
    if not spec.get("containers"):
        errs.required(f"{path}.containers")
    names: dict[str, None] = {}
    for field in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(field) or []):
            where = f"{path}.{field}[{at}]"
            _container(container, where, volumes, errs)
            name = container.get("name")
            if name and name in names:
                errs.duplicate(f"{where}.name", name)
            names[name] = None
    _host_ports(spec, path, errs)
    one_of(errs, f"{path}.restartPolicy", spec.get("restartPolicy"), restart)
    one_of(errs, f"{path}.dnsPolicy", spec.get("dnsPolicy"), ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"))
    at_least_zero(errs, f"{path}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    labels(errs, f"{path}.nodeSelector", spec.get("nodeSelector"))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            check_name(errs, f"{path}.{field}", spec[field], LABEL, LABEL_TEXT)
    for at, toleration in enumerate(spec.get("tolerations") or []):
        _toleration(toleration, f"{path}.tolerations[{at}]", errs)


def _volumes(spec: Obj, path: str, errs: FieldErrors) -> dict[str, None]:
    names: dict[str, None] = {}
    for at, volume in enumerate(spec.get("volumes") or []):
        name = volume.get("name")
        if not name:
            errs.required(f"{path}.volumes[{at}].name")
            continue
        check_name(errs, f"{path}.volumes[{at}].name", name, LABEL, LABEL_TEXT)
        if name in names:
            errs.duplicate(f"{path}.volumes[{at}].name", name)
        names[name] = None
        if len(volume) > 2:
            errs.forbidden(f"{path}.volumes[{at}]", "may not specify more than 1 volume type")
    return names


def _container(c: Obj, path: str, volumes: dict[str, None], errs: FieldErrors) -> None:
    if not c.get("name"):
        errs.required(f"{path}.name")
    else:
        check_name(errs, f"{path}.name", c["name"], LABEL, LABEL_TEXT)
    if not c.get("image"):
        errs.required(f"{path}.image")
    elif c["image"] != c["image"].strip():
        errs.invalid(f"{path}.image", c["image"], "must not have leading or trailing whitespace")
    one_of(errs, f"{path}.imagePullPolicy", c.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    names: dict[str, None] = {}
    for at, p in enumerate(c.get("ports") or []):
        where = f"{path}.ports[{at}]"
        if p.get("name"):
            port_name(errs, f"{where}.name", p["name"])
            if p["name"] in names:
                errs.duplicate(f"{where}.name", p["name"])
            names[p["name"]] = None
        if not p.get("containerPort"):
            errs.required(f"{where}.containerPort")
        else:
            port(errs, f"{where}.containerPort", p["containerPort"])
        port(errs, f"{where}.hostPort", p.get("hostPort"), zero_ok=True)
        one_of(errs, f"{where}.protocol", p.get("protocol"), ("TCP", "UDP", "SCTP"))
    for at, env in enumerate(c.get("env") or []):
        if not env.get("name"):
            errs.required(f"{path}.env[{at}].name")
        else:
            check_name(errs, f"{path}.env[{at}].name", env["name"], ENV_NAME, ENV_TEXT, 1 << 20)
    for at, mount in enumerate(c.get("volumeMounts") or []):
        if mount.get("name") and mount["name"] not in volumes:
            errs.not_found(f"{path}.volumeMounts[{at}].name", mount["name"])
        if not mount.get("mountPath"):
            errs.required(f"{path}.volumeMounts[{at}].mountPath")
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if field in c:
            _probe(c[field], f"{path}.{field}", errs, field)


def _probe(probe: Obj, path: str, errs: FieldErrors, field: str) -> None:
    handlers = [h for h in ("exec", "httpGet", "tcpSocket", "grpc") if h in probe]
    if not handlers:
        errs.required(path, "must specify a handler type")
    for extra in handlers[1:]:
        errs.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for handler in ("httpGet", "tcpSocket"):
        if handler in probe:
            int_or_name(errs, f"{path}.{handler}.port", probe[handler].get("port", 0))
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        at_least_zero(errs, f"{path}.{name}", probe.get(name))
    if field != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        errs.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _host_ports(spec: Obj, path: str, errs: FieldErrors) -> None:
    used: dict[tuple[Any, ...], None] = {}
    for i, c in enumerate(spec.get("containers") or []):
        for j, p in enumerate(c.get("ports") or []):
            if p.get("hostPort"):
                key = (p.get("hostIP", ""), p.get("protocol"), p["hostPort"])
                if key in used:
                    errs.duplicate(f"{path}.containers[{i}].ports[{j}].hostPort", f"{key[0]}/{key[2]}/{key[1]}")
                used[key] = None
                if spec.get("hostNetwork") and p["hostPort"] != p.get("containerPort"):
                    errs.invalid(f"{path}.containers[{i}].ports[{j}].containerPort", p.get("containerPort"),
                                 "must match `hostPort` when `hostNetwork` is true")


def _toleration(t: Obj, path: str, errs: FieldErrors) -> None:
    if not t.get("key") and t.get("operator", "Equal") != "Exists":
        errs.invalid(f"{path}.operator", t.get("operator", ""), "operator must be Exists when `key` is empty, which means "
                     '"match all values and all keys"')
    one_of(errs, f"{path}.operator", t.get("operator"), ("Equal", "Exists"))
    one_of(errs, f"{path}.effect", t.get("effect"), ("NoSchedule", "PreferNoSchedule", "NoExecute"))


# -- workloads --------------------------------------------------------------------------------------------------------


def label_selector(errs: FieldErrors, path: str, selector: Obj) -> None:
    labels(errs, f"{path}.matchLabels", selector.get("matchLabels"))
    for at, expr in enumerate(selector.get("matchExpressions") or []):
        where = f"{path}.matchExpressions[{at}]"
        op = expr.get("operator")
        if op in ("In", "NotIn") and not expr.get("values"):
            errs.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif op in ("Exists", "DoesNotExist") and expr.get("values"):
            errs.forbidden(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif op not in ("In", "NotIn", "Exists", "DoesNotExist"):
            errs.invalid(f"{where}.operator", op or "", "not a valid selector operator")
        qualified_name(errs, f"{where}.key", str(expr.get("key", "")))


def _go_selector(selector: Any) -> GoText:
    """A LabelSelector as Go's %#v prints it."""
    match = (selector or {}).get("matchLabels")
    text = "map[string]string(nil)" if match is None else (
        "map[string]string{" + ", ".join(f'"{k}":"{v}"' for k, v in sorted(match.items())) + "}")
    return GoText(f"v1.LabelSelector{{MatchLabels:{text}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}}")


def _selected_template(
    obj: Obj, old: Obj | None, errs: FieldErrors, restart: tuple[str, ...] = ("Always",), fixed: bool = True
) -> None:
    """Selector and template of a workload: present, matching each other, the selector unchanged."""
    spec = obj.get("spec", {})
    template = spec.get("template")
    selector = spec.get("selector")
    if selector is None:
        errs.required("spec.selector")
    else:
        label_selector(errs, "spec.selector", selector)
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errs.invalid("spec.selector", _go_selector(selector), f"empty selector is invalid for {obj['kind'].lower()}")
        elif template is not None and not any(f.startswith("spec.selector") for _, f, _ in errs.found):
            have = (template.get("metadata") or {}).get("labels")
            if not selectors.matches(selectors.from_label_selector(selector) or [], have):
                text = have or GoText("map[string]string(nil)")
                errs.invalid("spec.template.metadata.labels", text, "`selector` does not match template `labels`")
    if template is not None:
        labels(errs, "spec.template.labels", (template.get("metadata") or {}).get("labels"))
        pod_spec(template.get("spec", {}), "spec.template.spec", errs, restart)
    else:
        errs.required("spec.template")
    if fixed and old is not None and old["spec"].get("selector") != selector:
        errs.immutable("spec.selector", _go_selector(selector))
    at_least_zero(errs, "spec.replicas", spec.get("replicas"))
    at_least_zero(errs, "spec.minReadySeconds", spec.get("minReadySeconds"))
    at_least_zero(errs, "spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def deployment(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _selected_template(obj, old, errs)
    spec = obj["spec"]
    strategy = spec.get("strategy", {})
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
        errs.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    one_of(errs, "spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate") or {}
    for field in ("maxUnavailable", "maxSurge"):
        _int_or_percent(errs, f"spec.strategy.rollingUpdate.{field}", rolling.get(field))
    if rolling and all(rolling.get(f) in (0, "0%") for f in ("maxUnavailable", "maxSurge")):
        errs.invalid("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"],
                     "may not be 0 when `maxSurge` is 0")
    deadline = spec.get("progressDeadlineSeconds", 600)
    at_least_zero(errs, "spec.progressDeadlineSeconds", deadline)
    if deadline <= spec.get("minReadySeconds", 0):
        errs.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _int_or_percent(errs: FieldErrors, path: str, value: Any) -> None:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+%", value):
        errs.invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
                     "'93%', regex used for validation is '[0-9]+%')")
    at_least_zero(errs, path, value)


def replicaset(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _selected_template(obj, old, errs)


def statefulset(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _selected_template(obj, None, errs)
    one_of(errs, "spec.podManagementPolicy", obj["spec"].get("podManagementPolicy"), ("OrderedReady", "Parallel"))
    one_of(errs, "spec.updateStrategy.type", obj["spec"].get("updateStrategy", {}).get("type"), ("OnDelete", "RollingUpdate"))
    free = ("replicas", "ordinals", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
            "revisionHistoryLimit")
    if old is not None and {k: v for k, v in obj["spec"].items() if k not in free} != {
            k: v for k, v in old["spec"].items() if k not in free}:
        errs.forbidden("spec", STS_UPDATE_TEXT)


def daemonset(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _selected_template(obj, old, errs)
    one_of(errs, "spec.updateStrategy.type", obj["spec"].get("updateStrategy", {}).get("type"), ("OnDelete", "RollingUpdate"))


def job(obj: Obj, old: Obj | None, errs: FieldErrors) -> None:
    _selected_template(obj, old, errs, ("OnFailure", "Never"))
    spec = obj["spec"]
    for field in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        at_least_zero(errs, f"spec.{field}", spec.get(field))
    one_of(errs, "spec.completionMode", spec.get("completionMode"), ("Indexed", "NonIndexed"))
    if old is not None:
        if old["spec"].get("template") != spec.get("template"):
            errs.immutable("spec.template", GoText("core.PodTemplateSpec{...}"))
        if old["spec"].get("completions") != spec.get("completions"):
            errs.immutable("spec.completions", spec.get("completions"))
