"""The terminal of `exec -t`: a line discipline between the person and the program.

Input is edited by line (erase, ^U), echoed, and given to readers at Enter; ^C and ^\\ become signals for the foreground
process, ^D an end of file. Output gets \\r before each \\n. TIOCSWINSZ is `resize`.

Source: termios(3), Linux drivers/tty/n_tty.c. Leaves out: raw mode, job control, ^Z.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from kubenet.kernel.socket.file import POLLIN, POLLOUT, File, oserror
from kubenet.sim.clock import EventLoop


class Terminal(File):
    """One pseudo terminal, shared by descriptors 0, 1 and 2."""

    __slots__ = ("sink", "line", "ready", "eof", "foreground", "rows", "cols")

    def __init__(self, loop: EventLoop, sink: Callable[[int, bytes], None]) -> None:
        super().__init__(loop, "tty")
        self.sink = sink
        self.line = bytearray()
        self.ready: list[bytes] = []
        self.eof = False
        self.foreground: Any = None
        self.rows, self.cols = 24, 80

    def feed(self, data: bytes) -> None:
        """Keys arrive."""
        for byte in data:
            if byte in (3, 28):
                self.line.clear()
                self.sink(1, b"^C\r\n" if byte == 3 else b"^\\\r\n")
                for proc in self._jobs():
                    proc.kill(2 if byte == 3 else 3)
            elif byte in (10, 13):
                self.sink(1, b"\r\n")
                self._give(bytes(self.line) + b"\n")
            elif byte == 4:
                self._give(bytes(self.line))
            elif byte in (8, 127):
                if self.line:
                    self.line.pop()
                    self.sink(1, b"\b \b")
            elif byte == 21:
                self.sink(1, b"\b \b" * len(self.line))
                self.line.clear()
            else:
                self.line.append(byte)
                self.sink(1, bytes([byte]))

    def _jobs(self) -> list[Any]:
        """The foreground process and its descendants, leaves first: simplified, there are no process groups."""
        out: list[Any] = []

        def add(proc: Any) -> None:
            for child in proc.children:
                add(child)
            out.append(proc)

        if self.foreground is not None:
            add(self.foreground)
        return out

    def _give(self, data: bytes) -> None:
        self.ready.append(data)
        self.line.clear()
        self.wait.wake()

    def feed_eof(self) -> None:
        """The person hung up."""
        self.eof = True
        self.wait.wake()

    def resize(self, rows: int, cols: int) -> None:
        """The window has another size; the program gets SIGWINCH."""
        self.rows, self.cols = rows, cols
        if self.foreground is not None:
            self.foreground.kill(28)

    def read(self, size: int) -> bytes:
        if not self.wait.until(lambda: self.ready or self.eof, self.timeout()):
            raise oserror(errno.EAGAIN)
        if not self.ready:
            return b""
        line = self.ready.pop(0)
        if len(line) > size:
            self.ready.insert(0, line[size:])
        return line[:size]

    def write(self, data: bytes) -> int:
        self.sink(1, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)

    def poll(self) -> int:
        return POLLOUT | (POLLIN if self.ready or self.eof else 0)
