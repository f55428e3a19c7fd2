"""kube-proxy's health check ports as listening sockets on the node: one HTTP server a Service, any path, any method.

    server = HealthServer(container, proxy)
    server.sync({("default", "web"): 32000})      after a sync of the rules: these ports are open, and no others
    server.close()                                the program is gone

What it answers is read from the trackers, which change at a sync and at no other time: so the answers change with the rules.

simplified: a port that is taken is not reported by an Event on the Service; its server is tried again at the next sync.
Source: pkg/proxy/healthcheck/service_health.go SyncServices(), SyncEndpoints().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kubenet.cluster.proxy.changes import ServiceName
from kubenet.cluster.proxy.health import health_check_services, health_response
from kubenet.userland.images.httpserver import Request, Response, Server
from kubenet.userland.process import SIGTERM, Main, Process

if TYPE_CHECKING:
    from kubenet.cluster.proxy.controller import KubeProxy
    from kubenet.userland.container import Container


class HealthServer:
    """The open health check ports of one node's kube-proxy."""

    def __init__(self, container: Container, proxy: KubeProxy) -> None:
        self.container = container
        self.proxy = proxy
        self.open: dict[ServiceName, tuple[int, Process]] = {}

    def sync(self, wanted: Mapping[ServiceName, int]) -> None:
        """Close what is not wanted any more, then open what is new."""
        for name, (port, process) in list(self.open.items()):
            if wanted.get(name) != port or process.done:
                del self.open[name]
                if not process.done:
                    process.kill(SIGTERM, outside=True)
        for name, port in wanted.items():
            if name not in self.open:
                self.open[name] = port, self.container.run_native(self._program(name, port), ["kube-proxy"])

    def close(self) -> None:
        """No port is open."""
        self.sync({})

    def _program(self, name: ServiceName, port: int) -> Main:
        def main(proc: Process, argv: list[str]) -> int:
            server = Server(proc, self._handler(name))
            try:
                server.listen(port)
            except OSError as error:
                proc.err(f"Failed to start healthcheck: {error.strerror}\n")
                return 1
            return server.run()

        return main

    def _handler(self, name: ServiceName) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            code, headers, body = health_response(name, self.local_endpoints(name), self.proxy.is_healthy())
            return Response(code, body, list(headers.items()))

        return answer

    def local_endpoints(self, name: ServiceName) -> int:
        """How many ready endpoints of the Service this node has, as of the last sync."""
        count = 0
        for proxier in self.proxy.proxiers:
            trackers = proxier.trackers
            found = health_check_services(trackers.services.ports, trackers.slices.endpoints, self.proxy.options.node_name)
            count += found.get(name, (0, 0))[1]
        return count
