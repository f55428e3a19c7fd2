"""Cluster DNS: what CoreDNS's `kubernetes` plugin answers, from the store. Pure: a query in, a response out.

    ClusterDns(store).answer(query) -> DnsMessage, or None for names that are not the cluster's (forward those)

    web.default.svc.cluster.local            A      the cluster IP; if headless, the addresses of the endpoints
    web-0.web.default.svc.cluster.local      A      one endpoint, by its hostname or its dashed address
    _http._tcp.web.default.svc.cluster.local SRV    a named port; targets are the Service or its endpoints
    10-48-2-7.default.pod.cluster.local      A      the address itself (`pods insecure`)
    7.2.48.10.in-addr.arpa                   PTR    the Service with this cluster IP, or an endpoint with this address

A name that exists but has no record of the type is NOERROR without answers (NODATA); one that does not exist is
NXDOMAIN; both carry the zone's SOA. A headless Service without ready endpoints is NXDOMAIN, as with CoreDNS. Answers
are authoritative, and recursion is not offered, which is why `dig` warns. Several addresses are rotated by the query's
id, as the `loadbalance` plugin does it.

TTL is 30 s (the Corefile of kubeadm; the plugin's own default is 5).
simplified: no IPv6 addresses exist here, so AAAA is always NODATA; no zone transfer; the SOA serial is the store's
version.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api import selectors
from kubenet.cluster.controllers.endpointslice import SERVICE_NAME
from kubenet.cluster.store import Store, key_of
from kubenet.sim.rng import hash64
from kubenet.wire.addr import ip4, ip4_text
from kubenet.wire.dns import AAAA, ANY, CNAME, NOERROR, NS, NXDOMAIN, PTR, SOA, SRV, TXT, A, DnsMessage, Question, Record

Obj = dict[str, Any]
REVERSE = ".in-addr.arpa."
MAX_ALIASES = 8  # CNAMEs in an answer
DNS_SERVICE = ("kube-system", "kube-dns")


class NoSuchName(Exception):
    """NXDOMAIN."""


class ClusterDns:
    """The kubernetes plugin over one store."""

    def __init__(self, store: Store, domain: str = "cluster.local", ttl: int = 30) -> None:
        self.store = store
        self.zone = domain.strip(".").lower() + "."
        self.ttl = ttl

    def answer(self, query: DnsMessage) -> DnsMessage | None:
        """The response; None if the question is for somebody else's zone."""
        if len(query.question) != 1:
            return None
        question = query.question[0]
        name = question.name.lower()
        out = DnsMessage(query.id, qr=True, aa=True, rd=query.rd, question=[question])
        if query.edns_size:
            out.edns_size = query.edns_size
        try:
            if name.endswith(REVERSE):
                out.answer = self._reverse(name)
                if not out.answer:
                    return None                                  # fallthrough in-addr.arpa
            elif name == self.zone or name.endswith("." + self.zone):
                self._forward(name, question, out)
            else:
                return None
        except NoSuchName:
            out.rcode = NXDOMAIN
        if not out.answer:
            out.authority = [self._soa()]
        elif len(out.answer) > 1:
            out.answer = rotated(out.answer, query.id)
        return out

    # -- forward ----------------------------------------------------------------------------------------------------

    def _forward(self, name: str, question: Question, out: DnsMessage, seen: tuple[str, ...] = ()) -> None:
        """Answer (and additional) records for a name in the zone; none means NODATA. Raises NoSuchName.

        `seen`: the names that led here, as aliases.
        """
        labels = [p for p in name[: -len(self.zone)].rstrip(".").split(".") if p]
        if not labels:
            out.answer = self._apex(question)
        elif labels == ["dns-version"]:
            out.answer = [self._record(question, TXT, (b"1.1.0",))] if question.type in (TXT, ANY) else []
        elif labels == ["ns", "dns"]:
            out.answer = self._addresses(question, self._dns_ips())
        elif labels[-1] == "pod":
            out.answer = self._pod(labels[:-1], question)
        elif labels[-1] == "svc":
            self._service(labels[:-1], question, out, seen)
        else:
            raise NoSuchName

    def _record(self, question: Question, type_: int, data: Any) -> Record:
        return Record(question.name, type_, self.ttl, data)

    def _addresses(self, question: Question, ips: list[int]) -> list[Record]:
        return [self._record(question, A, ip) for ip in ips] if question.type in (A, ANY) else []

    def _apex(self, question: Question) -> list[Record]:
        if question.type == SOA:
            return [self._soa()]
        if question.type == NS:
            return [self._record(question, NS, f"ns.dns.{self.zone}")]
        return []

    def _soa(self) -> Record:
        data = (f"ns.dns.{self.zone}", f"hostmaster.{self.zone}", self.store.rv, 7200, 1800, 86400, self.ttl)
        return Record(self.zone, SOA, self.ttl, data)

    def _dns_ips(self) -> list[int]:
        service = self.store.get("Service", DNS_SERVICE)
        ip = service["spec"].get("clusterIP", "") if service else ""
        return [ip4(ip)] if ip and ip != "None" else []

    def _has_namespace(self, name: str) -> None:
        if self.store.get("Namespace", ("", name)) is None:
            raise NoSuchName

    def _pod(self, labels: list[str], question: Question) -> list[Record]:
        if not labels:
            return []
        self._has_namespace(labels[-1])
        if len(labels) == 1:
            return []
        try:
            ip = ip4(labels[0].replace("-", "."))
        except ValueError:
            raise NoSuchName from None
        if len(labels) != 2:
            raise NoSuchName
        return self._addresses(question, [ip])

    # -- services -------------------------------------------------------------------------------------------------------

    def _service(self, labels: list[str], question: Question, out: DnsMessage, seen: tuple[str, ...]) -> None:
        if not labels:
            return                                                # svc.cluster.local exists
        namespace = labels[-1]
        self._has_namespace(namespace)
        if len(labels) == 1:
            return                                                # so does default.svc.cluster.local
        service = self.store.get("Service", (namespace, labels[-2]))
        if service is None:
            raise NoSuchName
        rest = labels[:-2]
        if len(rest) == 2 and rest[0].startswith("_") and rest[1].startswith("_"):
            self._srv(service, question, out, rest[0][1:], rest[1][1:])
        elif not rest:
            self._plain(service, question, out, seen)
        elif len(rest) == 1 and service["spec"].get("type") != "ExternalName":
            self._one_endpoint(service, rest[0], question, out)
        else:
            raise NoSuchName

    def _plain(self, service: Obj, question: Question, out: DnsMessage, seen: tuple[str, ...]) -> None:
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            out.answer = self._external(spec["externalName"].rstrip(".").lower() + ".", question, seen or (question.name.lower(),))
            return None
        if question.type == SRV:
            return self._srv(service, question, out, "", "")
        if is_headless(service):
            endpoints = self._endpoints(service)
            if not endpoints:
                raise NoSuchName
            out.answer = self._addresses(question, list(dict.fromkeys(ip for _, ip, _ in endpoints)))
        else:
            out.answer = self._addresses(question, [ip4(spec["clusterIP"])])
        return None

    def _external(self, target: str, question: Question, seen: tuple[str, ...]) -> list[Record]:
        """The CNAME of an ExternalName Service and, if it leads to a name of this zone, what is found there.

        CoreDNS: plugin/backend_lookup.go A(): a name of the zone without records of the type, a loop and the ninth CNAME give nothing,
        not even the CNAME; what is behind a name elsewhere is the resolver's to find out.
        """
        alias = self._record(question, CNAME, target)
        if question.type == CNAME:
            return [alias]
        if question.type not in (A, AAAA) or target in seen or len(seen) > MAX_ALIASES:
            return []
        if not target.endswith("." + self.zone):
            return [alias]
        found = DnsMessage(0)
        try:
            self._forward(target, Question(target, question.type), found, (*seen, target))
        except NoSuchName:
            return []
        return [alias, *found.answer] if found.answer else []

    def _one_endpoint(self, service: Obj, host: str, question: Question, out: DnsMessage) -> None:
        found = list(dict.fromkeys(ip for name, ip, _ in self._endpoints(service) if name == host))
        if not found:
            raise NoSuchName
        if question.type == SRV:
            ports = [p for name, _, ps in self._endpoints(service) if name == host for p in ps]
            out.answer = [self._record(question, SRV, (0, 100, p["port"], question.name)) for p in ports]
        else:
            out.answer = self._addresses(question, found)

    def _endpoints(self, service: Obj) -> list[tuple[str, int, list[Obj]]]:
        """(hostname or dashed address, address, ports) of what the Service may be reached at, in slice order."""
        namespace, name = key_of(service)
        required: list[selectors.Requirement] = [(SERVICE_NAME, "=", (name,))]
        unready = bool(service["spec"].get("publishNotReadyAddresses"))
        out: list[tuple[str, int, list[Obj]]] = []
        for s in self.store.list("EndpointSlice", namespace, required):
            if s.get("addressType") != "IPv4":
                continue
            for endpoint in s.get("endpoints") or ():
                if not unready and (endpoint.get("conditions") or {}).get("ready") is False:
                    continue
                for address in endpoint["addresses"]:
                    out.append((endpoint_name(endpoint, address), ip4(address), list(s.get("ports") or ())))
        return out

    def _srv(self, service: Obj, question: Question, out: DnsMessage, port: str, protocol: str) -> None:
        """SRV records of the named port (or, with "", of all), and the addresses of their targets as additional."""
        namespace, name = key_of(service)
        base = f"{name}.{namespace}.svc.{self.zone}"

        def wanted(p: Obj) -> bool:
            return not port or p.get("name", "") == port and p.get("protocol", "TCP").lower() == protocol

        if service["spec"].get("type") == "ExternalName":
            raise NoSuchName
        if is_headless(service):
            found = [(f"{host}.{base}", ip, p["port"]) for host, ip, ports in self._endpoints(service) for p in ports
                     if p.get("port") and wanted(p)]
        else:
            ip = ip4(service["spec"]["clusterIP"])
            found = [(base, ip, p["port"]) for p in service["spec"].get("ports") or () if wanted(p)]
        if not found:
            raise NoSuchName
        if question.type not in (SRV, ANY):
            out.answer = self._addresses(question, list(dict.fromkeys(ip for _, ip, _ in found)))
            return
        weight = max(100 // len(found), 1)
        out.answer = [self._record(question, SRV, (0, weight, number, target)) for target, _, number in found]
        targets = dict.fromkeys((target, ip) for target, ip, _ in found)
        out.additional = [Record(target, A, self.ttl, ip) for target, ip in targets]

    # -- reverse --------------------------------------------------------------------------------------------------------

    def _reverse(self, name: str) -> list[Record]:
        parts = name[: -len(REVERSE)].split(".")
        try:
            ip = ip4_text(ip4(".".join(reversed(parts))))
        except ValueError:
            return []
        for service in self.store.iter("Service"):
            if service["spec"].get("clusterIP") == ip:
                namespace, svc = key_of(service)
                return [Record(name, PTR, self.ttl, f"{svc}.{namespace}.svc.{self.zone}")]
        out = []
        for s in self.store.iter("EndpointSlice"):
            svc = (s["metadata"].get("labels") or {}).get(SERVICE_NAME, "")
            for endpoint in s.get("endpoints") or ():
                if svc and ip in endpoint["addresses"]:
                    target = f"{endpoint_name(endpoint, ip)}.{svc}.{s['metadata']['namespace']}.svc.{self.zone}"
                    out.append(Record(name, PTR, self.ttl, target))
        return out


def is_headless(service: Obj) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def endpoint_name(endpoint: Obj, address: str) -> str:
    """The label of an endpoint: its hostname, or its address with dashes. CoreDNS: endpointHostname()."""
    return str(endpoint.get("hostname") or address.replace(".", "-"))


def rotated(records: list[Record], query_id: int) -> list[Record]:
    """CNAMEs first, addresses last and shuffled by the query's id. CoreDNS: plugin/loadbalance roundRobin(): cname, rest, address."""
    addresses = [r for r in records if r.type in (A, AAAA)]
    _shuffle(addresses, query_id)
    rest = [r for r in records if r.type not in (CNAME, A, AAAA)]
    return [*(r for r in records if r.type == CNAME), *rest, *addresses]


def _shuffle(records: list[Record], query_id: int) -> None:
    """In place. CoreDNS: roundRobinShuffle()."""
    count = len(records)
    for at in range(count - 1):
        other = at + hash64(query_id, at) % (count - at)
        records[at], records[other] = records[other], records[at]


__all__ = ["ClusterDns", "NOERROR", "NXDOMAIN", "endpoint_name", "is_headless"]
