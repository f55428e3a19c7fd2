"""Load balancers ask each node whether it has an endpoint of its own: kube-proxy's health check ports.

A LoadBalancer Service with externalTrafficPolicy Local keeps the client's address by sending to endpoints of the
receiving node only. So its load balancer must know which nodes have one. Each node answers HTTP on the Service's
healthCheckNodePort, on any path: 200 if it has a ready endpoint of the Service and kube-proxy is healthy, else 503.
The answer counts distinct addresses of ready local endpoints; a terminating one still gets traffic, but the check
fails already, so that the balancer turns away before the Pod is gone.

    wanted = health_check_services(ports, endpoints, node)  {(namespace, name): (port, local endpoints)}
    code, headers, body = health_response(key, count, proxy.is_healthy())
    health_server.py listens on the ports

Source: pkg/proxy/healthcheck/service_health.go ServeHTTP(); pkg/proxy EndpointsMap.LocalReadyEndpoints().
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubenet.cluster.proxy.changes import Endpoint, PortKey, ServiceName, ServicePort

OK, UNAVAILABLE = 200, 503


def health_ports(ports: Iterable[ServicePort]) -> dict[ServiceName, int]:
    """The Services that want a health check, whatever node it is on: their ports."""
    out: dict[ServiceName, int] = {}
    for port in ports:
        if port.health_check_node_port:
            namespace, _, rest = port.spn.partition("/")
            out[namespace, rest.partition(":")[0]] = port.health_check_node_port
    return out


def health_check_services(
    ports: Mapping[PortKey, ServicePort], endpoints: Mapping[PortKey, tuple[Endpoint, ...]], node_name: str
) -> dict[ServiceName, tuple[int, int]]:
    """The Services that want a health check here: their port, and how many local endpoint addresses are ready."""
    wanted: dict[ServiceName, int] = {}
    local: dict[ServiceName, dict[int, None]] = {}
    for key in sorted(ports):
        port = ports[key]
        namespace, _, rest = port.spn.partition("/")
        name = (namespace, rest.partition(":")[0])
        if port.health_check_node_port:
            wanted[name] = port.health_check_node_port
            here = local.setdefault(name, {})
            for endpoint in endpoints.get(key, ()):
                if endpoint.ready and endpoint.node_name == node_name:
                    here[endpoint.ip.value] = None
    return {name: (number, len(local[name])) for name, number in wanted.items()}


def health_response(service: ServiceName, local_endpoints: int, is_healthy: bool) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer for one Service."""
    namespace, name = service
    body = (
        "{\n"
        '\t"service": {\n'
        f'\t\t"namespace": "{namespace}",\n'
        f'\t\t"name": "{name}"\n'
        "\t},\n"
        f'\t"localEndpoints": {local_endpoints},\n'
        f'\t"serviceProxyHealthy": {"true" if is_healthy else "false"}\n'
        "}"
    )
    headers = {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(local_endpoints),
    }
    return (OK if local_endpoints and is_healthy else UNAVAILABLE), headers, body.encode()
