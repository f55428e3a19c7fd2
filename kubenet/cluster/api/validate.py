"""Validation: what the API server refuses, in its own words. One function per kind; all findings are collected.

    validate(info, obj, old) -> FieldErrors           obj is complete (defaults filled in); old is None on create

Texts follow apimachinery's util/validation and pkg/apis/*/validation, because kubectl prints them and people search for
them. What a schema alone can say (unknown fields, wrong types) is schema.py's; missing required fields of lesser
structs arrive here as findings of the schema and are reported as "Required value".

simplified: rules about fields that have no effect here (volumes' sources, security contexts, affinity, resources'
names) are not repeated; such fields are kept as sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.api.kinds import KindInfo
from kubenet.cluster.api.status import FieldErrors, GoText
from kubenet.wire.addr import ip4, ip6

Obj = dict[str, Any]

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = LABEL + r"(\." + LABEL + ")*"
DNS1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
VALUE = "(" + QUALIFIED + ")?"
CONFIG_KEY = r"[-._a-zA-Z0-9]+"
ENV_NAME = r"[-._a-zA-Z][-._a-zA-Z0-9]*"

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')")
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')")
DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    f"with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{DNS1035}')")
QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED}')")
VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '({VALUE[1:]}')")
CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{CONFIG_KEY}')")
ENV_TEXT = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start "
    f"with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '{ENV_NAME}')")
FINALIZER_TEXT = "name is neither a standard finalizer name nor is it fully qualified"
PORT_TEXT = "must be between 1 and 65535, inclusive"
NEGATIVE_TEXT = "must be greater than or equal to 0"
LONG_63, LONG_253 = "must be no more than 63 characters", "must be no more than 253 characters"
POD_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")
STS_UPDATE_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")

_RE = {p: re.compile(p) for p in (LABEL, SUBDOMAIN, DNS1035, QUALIFIED, VALUE, CONFIG_KEY, ENV_NAME)}
DNS1035_KINDS = ("Service",)
LABEL_KINDS = ("Namespace",)


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


# -- words and numbers ------------------------------------------------------------------------------------------------


def name_errors(value: Any, pattern: str, text: str, limit: int = 63) -> list[str]:
    """What is wrong with a name, as sentences."""
    out = []
    if len(str(value)) > limit:
        out.append(f"must be no more than {limit} characters")
    if not _RE[pattern].fullmatch(str(value)):
        out.append(text)
    return out


def check_name(errs: FieldErrors, field: str, value: Any, pattern: str, text: str, limit: int = 63) -> None:
    for sentence in name_errors(value, pattern, text, limit):
        errs.invalid(field, value, sentence)


def qualified_name(errs: FieldErrors, field: str, key: str) -> None:
    """A label or annotation key: [prefix/]name."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        if not prefix:
            errs.invalid(field, key, "prefix part must be non-empty")
        elif not _RE[SUBDOMAIN].fullmatch(prefix):
            errs.invalid(field, key, "prefix part " + SUBDOMAIN_TEXT)
    if not name:
        errs.invalid(field, key, "name part must be non-empty")
    if len(name) > 63:
        errs.invalid(field, key, "name part " + LONG_63)
    if not _RE[QUALIFIED].fullmatch(name):
        errs.invalid(field, key, QUALIFIED_TEXT)


def labels(errs: FieldErrors, field: str, values: dict[str, str] | None) -> None:
    for key, value in (values or {}).items():
        qualified_name(errs, field, key)
        check_name(errs, field, value, VALUE, VALUE_TEXT)


def port(errs: FieldErrors, field: str, value: Any, zero_ok: bool = False) -> None:
    if value is None or zero_ok and value == 0:
        return
    if not 1 <= value <= 65535:
        errs.invalid(field, value, PORT_TEXT)


def port_name(errs: FieldErrors, field: str, value: str) -> None:
    """A port name of a container: IANA_SVC_NAME (RFC 6335 5.1)."""
    if len(value) > 15:
        errs.invalid(field, value, "must be no more than 15 characters")
    if not re.fullmatch(r"[a-z0-9-]*", value):
        errs.invalid(field, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", value):
        errs.invalid(field, value, "must contain at least one letter (a-z)")
    if "--" in value:
        errs.invalid(field, value, "must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        errs.invalid(field, value, "must not begin or end with a hyphen")


def int_or_name(errs: FieldErrors, field: str, value: Any) -> None:
    if isinstance(value, str):
        port_name(errs, field, value)
    else:
        port(errs, field, value)


def one_of(errs: FieldErrors, field: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        errs.unsupported(field, value, list(allowed))


def at_least_zero(errs: FieldErrors, field: str, value: Any) -> None:
    if isinstance(value, int) and value < 0:
        errs.invalid(field, value, NEGATIVE_TEXT)


def is_ip(text: Any) -> bool:
    """True for an IPv4 or IPv6 address."""
    for parse in (ip4, ip6):
        try:
            parse(str(text))
            return True
        except ValueError:
            continue
    return False


IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


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
