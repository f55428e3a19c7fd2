"""The probe behind `kubenet trace SRC DST:PORT`: an ordinary process that connects and closes, and is remembered.

It is journaled and run like any exec; nothing about its packets is special, except that the first packet of a connection is
always armed. What it keeps is how to find them again: the time it began, the packet ids before and after, its socket's two
ends, and how connect() ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kubenet.units import SEC
from kubenet.userland.container import Container
from kubenet.userland.process import Process
from kubenet.wire.addr import ip4

CONNECT_TIMEOUT = 3 * SEC
AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2


class Probe:
    """One probe and what became of it. `error` is an errno, 0 for success; `done` once the process has ended."""

    def __init__(self, src: str, dst: str, port: int, proto: str, known: str = "") -> None:
        self.known = known  # the address, where the source has no cluster DNS to ask
        self.src = src
        self.dst = dst
        self.port = port
        self.proto = proto
        self.address = 0
        self.local: tuple[str, int] = ("", 0)
        self.error = 0
        self.gave_up = False  # the probe's patience ended, not the kernel's
        self.resolve_error = ""
        self.first_id = 0
        self.last_id = 0
        self.began = 0
        self.ended = 0
        self.host = ""
        self.netns = ""
        self.done = False
        self.on_done: Callable[[], None] | None = None

    @property
    def error_text(self) -> str:
        """What a program would print: "Connection refused"."""
        return os.strerror(self.error) if self.error else ""

    def main(self, proc: Process, argv: list[str]) -> int:
        """The program: resolve, connect, close."""
        loop = proc.container.loop
        self.host, self.netns = proc.net.host.name, proc.net.name
        address = self._resolve(proc)
        if address is None:
            return 6
        self.address = ip4(address)
        self.began, self.first_id = loop.now, loop.ids
        fd = proc.sys.socket(AF_INET, SOCK_STREAM if self.proto == "tcp" else SOCK_DGRAM)
        try:
            proc.sys.connect(fd, (address, self.port), CONNECT_TIMEOUT)
            if self.proto == "udp":
                proc.sys.send(fd, b"kubenet probe\n")
                proc.sys.poll([(fd, 1)], SEC // 10)
        except OSError as error:
            self.error = error.errno or 0
            if self.error in (11, 115):  # EAGAIN, EINPROGRESS: the time given was not enough
                self.error, self.gave_up = 110, True
        self.ended, self.last_id = loop.now, loop.ids
        self.local = proc.sys.getsockname(fd)
        proc.sys.close(fd)
        return 1 if self.error else 0

    def _resolve(self, proc: Process) -> str | None:
        from kubenet.userland.resolver import ResolveError, getaddrinfo

        if self.known:
            return self.known

        try:
            return str(getaddrinfo(proc, self.dst, self.port, AF_INET)[0][4][0])
        except ResolveError as error:
            self.resolve_error = str(error)
            return None

    def start(self, container: Container) -> Process:
        """Run it in a container."""
        process = container.run_native(self.main, ["kubenet-probe", f"{self.dst}:{self.port}"])
        process.on_exit.append(self._ended)
        return process

    def _ended(self, process: Any) -> None:
        self.done = True
        process.container.loop.stop()
