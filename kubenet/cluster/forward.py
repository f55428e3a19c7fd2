"""The pod's end of `kubectl port-forward`: a process that connects to a port of its own namespace and passes bytes on.

Its standard input is what the host's program sends, its output what the pod answers. Input's end becomes a half-closed connection;
the connection's end is the process's. It ends with 1 and a line on standard error if nobody listens.

simplified: it belongs to the pod's first running container (and shows in its `ps`), not to the sandbox; it ends with that container.
Only IPv4 is tried.
Source: containerd internal/cri/server/sandbox_portforward_linux.go, kubelet kuberuntime.
"""

from __future__ import annotations

import errno
import os

from kubenet.userland.process import Process
from kubenet.userland.syscalls import AF_INET, SHUT_WR, SOCK_STREAM

POLLIN = 1
CHUNK = 1 << 15
GONE = (errno.ECONNRESET, errno.EPIPE)


class Forward:
    """One connection to a port of a pod."""

    def __init__(self, pod: str, port: int) -> None:
        self.pod = pod
        self.port = port

    def main(self, proc: Process, argv: list[str]) -> int:
        """The program."""
        fd = proc.sys.socket(AF_INET, SOCK_STREAM)
        try:
            proc.sys.connect(fd, ("127.0.0.1", self.port))
        except OSError as error:
            words = os.strerror(error.errno or 0).lower()
            proc.err(f'error forwarding port {self.port} to pod {self.pod}: failed to connect to localhost:{self.port} inside namespace '
                     f'"{proc.net.name}", IPv4: dial tcp4 127.0.0.1:{self.port}: connect: {words}')
            return 1
        try:
            self._relay(proc, fd)
        except OSError as error:
            if error.errno not in GONE:  # a reset ends the connection; it is no failure of the forwarding
                raise
        return 0

    def _relay(self, proc: Process, fd: int) -> None:
        sys, wanted = proc.sys, [(fd, POLLIN), (0, POLLIN)]
        while True:
            ready = dict(sys.poll(wanted))
            if 0 in ready:
                data = sys.read(0, CHUNK)
                if data:
                    sys.send_all(fd, data)
                else:
                    sys.shutdown(fd, SHUT_WR)
                    wanted = [(fd, POLLIN)]
            if fd in ready:
                data = sys.recv(fd, CHUNK)
                if not data:
                    return
                sys.write_all(1, data)
