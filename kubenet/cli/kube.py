"""Kubernetes' REST through the session's socket: paths for kinds, Status errors as this project's errors.

    kube = Kube(client, talk=state.talk)
    kube.get(info, "default", "web-0")            the object           Raises NotFoundError with "did you mean"
    kube.list(info, "default", table=True)        a List, or the Table that the server renders
    kube.request("PATCH", path, ...)              (code, parsed body); Warning headers are said on stderr

`kinds("po,svc")` turns what a person types into KindInfo rows; the rows themselves are cluster/api/kinds.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from kubenet.cli.client import Client
from kubenet.cluster.api.kinds import SERVED, KindInfo, by_name
from kubenet.errors import KubenetError, ManifestError, NotFoundError, UsageError

Obj = dict[str, Any]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MANAGER = "kubenet"

# what design calls kinds but real tools show: (names, the command that shows it)
ELSEWHERE = {
    "ss": "ss -tan", "sockets": "ss -tan", "listeners": "ss -ltn", "ct": "conntrack -L", "conntrack": "conntrack -L",
    "rules": "iptables-save", "routes": "ip route", "links": "ip link", "neighbors": "ip neigh", "arp": "ip neigh",
    "fdb": "bridge fdb", "sysctls": "sysctl -a", "counters": "nstat",
}


def kinds(text: str) -> list[KindInfo]:
    """The kinds that `po,svc`, `deployments.apps` or `all` name. Raises UsageError."""
    out: list[KindInfo] = []
    for word in text.split(","):
        if word.lower() in ("all",):
            out += [info for info in SERVED if "all" in info.categories]
            continue
        info = by_name(word)
        if info is None or not info.served:
            raise _no_kind(word)
        out.append(info)
    return out


def _no_kind(word: str) -> KubenetError:
    if word.lower() in ELSEWHERE:
        return UsageError(f"`{word}` is shown by the real tool, run where it matters",
                          try_=f"kubenet exec node-1 -- {ELSEWHERE[word.lower()]}")
    from kubenet.cli.render import did_you_mean

    names = [name for info in SERVED for name in (info.plural, info.singular, *info.short)]
    hint = did_you_mean(word.lower(), names)
    return UsageError(f"no kind {word!r}.{hint}", why=f"kinds: {', '.join(info.plural for info in SERVED)}")


class Kube:
    """Requests on behalf of one command."""

    def __init__(self, client: Client, talk: Callable[[str], None] = lambda text: None) -> None:
        self.client = client
        self.talk = talk

    def request(self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None, content_type: str = "",
                accept: str = "application/json") -> tuple[int, Any]:
        """(HTTP code, parsed body), errors included. Warnings of the server go to stderr."""
        headers = {"accept": accept, "user-agent": f"{MANAGER}/cli"}
        if body is not None:
            headers["content-type"] = content_type or "application/json"
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        header, answer = self.client.call("http", data, method=method, path=path, headers=headers,
                                          query={k: [v] for k, v in (query or {}).items()})
        for name, value in _pairs(header.get("headers", [])):
            if name.lower() == "warning":
                self.talk("Warning: " + _warning_text(value))
        return int(header["code"]), json.loads(answer) if answer else None

    def must(self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None, content_type: str = "",
             accept: str = "application/json") -> Any:
        """The parsed body of a request that succeeded. Raises KubenetError."""
        code, answer = self.request(method, path, query, body, content_type, accept)
        if code >= 400:
            raise status_error(code, answer)
        return answer

    def find(self, info: KindInfo, namespace: str, name: str, table: bool = False, include: str = "") -> Obj | None:
        """One object, or None if there is none of that name."""
        path = path_of(info, namespace, name)
        query = {"includeObject": include} if include else {}
        code, answer = self.request("GET", path, query, accept=TABLE if table else "application/json")
        if code == 404:
            return None
        if code >= 400:
            raise status_error(code, answer)
        found: Obj = answer
        return found

    def get(self, info: KindInfo, namespace: str, name: str, table: bool = False, include: str = "") -> Obj:
        """One object. Raises NotFoundError."""
        found = self.find(info, namespace, name, table, include)
        if found is None:
            raise self.not_found(info, namespace, name)
        return found

    def list(self, info: KindInfo, namespace: str, table: bool = False, labels: str = "", fields: str = "",
             include: str = "") -> Obj:
        """A List, or the server's Table. namespace "" means all."""
        query = {"labelSelector": labels, "fieldSelector": fields, "includeObject": include}
        found: Obj = self.must("GET", path_of(info, namespace), {k: v for k, v in query.items() if v},
                               accept=TABLE if table else "application/json")
        return found

    def not_found(self, info: KindInfo, namespace: str, name: str) -> NotFoundError:
        """The error for a name that is not there, with the nearest one that is."""
        from kubenet.cli.render import did_you_mean

        where = f" in namespace {namespace}" if info.namespaced else ""
        names = [item["metadata"]["name"] for item in self.list(info, namespace)["items"]]
        hint = did_you_mean(name, names)
        why = ""
        if not hint and info.namespaced:
            code, _ = self.request("GET", f"/api/v1/namespaces/{quote(namespace)}")
            if code == 404:
                why = f"there is no namespace {namespace}"
            else:
                others = [i["metadata"]["namespace"] for i in self.list(info, "")["items"] if i["metadata"]["name"] == name]
                why = f"there is one in namespace {', '.join(others)}: -n {others[0]}" if others else ""
        return NotFoundError(f'no {info.singular} "{name}"{where}.{hint}', why=why,
                             try_="" if hint else f"kubenet get {info.plural}{' -A' if info.namespaced else ''}")


def path_of(info: KindInfo, namespace: str = "", name: str = "") -> str:
    """The REST path, with what needs quoting quoted."""
    return info.path(quote(namespace, safe="") if info.namespaced else "", quote(name, safe=""))


def _pairs(headers: Any) -> list[tuple[str, str]]:
    return list(headers.items()) if isinstance(headers, dict) else [(str(k), str(v)) for k, v in headers]


def _warning_text(value: str) -> str:
    """The text of `299 - "text"` (RFC 9111's ancestor, RFC 7234 5.5)."""
    _, quote_, rest = value.partition('"')
    return rest.rstrip('"').replace('\\"', '"').replace("\\\\", "\\") if quote_ else value


def status_error(code: int, status: Any, what: str = "", at: str = "") -> KubenetError:
    """A Status of the API server as an error of ours. `what` names the thing that was not done."""
    status = status if isinstance(status, dict) else {}
    message = str(status.get("message") or f"the API server answered {code}")
    causes = (status.get("details") or {}).get("causes") or []
    if code == 404:
        return NotFoundError(message, at=at)
    if code == 422 and causes:
        lines = [f"{c.get('field', '')}: {c.get('message', '')}".lstrip(": ") for c in causes]
        return ManifestError(f"{what or 'the object'} is not valid", at=at, why="\n".join(lines))
    if code in (400, 422) or code == 500 and "typed patch object" in message:
        return ManifestError(f"{what}: {message}" if what else message, at=at)
    if code == 409 and status.get("reason") == "Conflict" and causes:
        lines = [f"{c.get('field', '')}: {c.get('message', '')}" for c in causes]
        return KubenetError(f"{what or 'the object'}: others own fields that this would change", at=at, why="\n".join(lines),
                            try_="the same command with --force-conflicts")
    return KubenetError(f"{what}: {message}" if what else message, at=at)
