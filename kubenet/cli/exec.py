"""`kubenet exec`: a command in a pod or on a node, with its input, output, signals and exit code.

Virtual time runs while the command does. Ctrl-C sends it SIGINT; the third Ctrl-C gives up on it. With -t the terminal is raw and
the emulated terminal does the editing, the echo and ^C; without, bytes go through as they are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import click

from kubenet.cli.client import Client, Stream
from kubenet.cli.command import Cmd, after, namespace_option, state_of
from kubenet.cli.completion import complete_targets
from kubenet.engine import frames
from kubenet.errors import UsageError

CHUNK = 1 << 16


@click.command(
    "exec", cls=Cmd, dashdash=True, usage=["exec POD|NODE [-n NS] [-c NAME] [-i] [-t] -- COMMAND [ARG...]"],
    examples=[("kubenet exec client -- curl -s http://web", ""),
              ("kubenet exec node-1 -- iptables-save -t nat", "nodes have tools, too"),
              ("kubenet exec deploy/web -- ss -ltn", "a pod of the deployment"),
              ("kubenet exec -it client -- sh", "a shell"),
              ("echo hello | kubenet exec -i client -- cat", "")],
    exits="the command's own; 125 kubenet failed, 126 cannot be run,\n"
          "127 no such command, 128+n ended by signal n; 2 wrong usage",
)
@click.argument("target", shell_complete=complete_targets)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="")
@namespace_option
@click.option("-c", "--container", default="", metavar="NAME", help="which container of the pod; default the first")
@click.option("-i", "--stdin", "stdin", is_flag=True, help="hand on standard input")
@click.option("-t", "--tty", "tty", is_flag=True, help="a terminal for the command")
@click.option("--timeout", default="", metavar="TIME", help="give up after this much virtual time")
@click.pass_context
def exec_(ctx: click.Context, target: str, rest: tuple[str, ...], namespace: str, container: str, stdin: bool, tty: bool,
          timeout: str) -> int:
    """Run a command in a pod (POD, pod/POD, deploy/NAME) or on a node (NODE,
    node/NODE). Virtual time passes until it ends."""
    argv = after(ctx)
    if not argv or rest:
        words = " ".join(rest or argv or ("ls",))
        raise UsageError("the command to run stands after --", try_=f"kubenet exec {target} -- {words}")
    state = state_of(ctx)
    limit = 0
    if timeout:
        from kubenet.cli.apply import duration

        limit = duration(timeout)
    if tty and not (stdin and sys.stdin.isatty()):
        state.talk("no terminal for the command: -t needs -i and a terminal on standard input")
        tty = False
    with state.client() as client:
        return run_remote(client, namespace=namespace, target=target, container=container, argv=argv, tty=tty, stdin=stdin,
                          timeout_ns=limit)


def run_remote(client: Client, **request: Any) -> int:
    """Run a command in the session, wired to our own standard streams; its exit code."""
    rows, cols = _size()
    stream = client.stream("exec", rows=rows, cols=cols, **request)
    with _signals() as wakeup, _raw(bool(request.get("tty"))):
        return _Relay(client, stream, wakeup, bool(request.get("stdin")), bool(request.get("tty"))).run()


class _Relay:
    """Moves bytes and signals between our process and the emulated one.

    Nothing here waits for the other side to read: input is taken only when all of the last one has left, and output is read
    meanwhile; else both sides could wait for each other with full buffers.
    """

    def __init__(self, client: Client, stream: Stream, wakeup: socket.socket, stdin: bool, tty: bool) -> None:
        self.client = client
        self.stream = stream
        self.wakeup = wakeup
        self.stdin = stdin
        self.tty = tty
        self.interrupts = 0
        self.started = False
        self.leaving = bytearray()

    def run(self) -> int:
        """Until the command ends; its exit code. Raises KubenetError."""
        while True:
            wanted: list[Any] = [self.client.sock, self.wakeup]
            if self.stdin and self.started and not self.leaving:
                wanted.append(0)
            ready, writable, _ = select.select(wanted, [self.client.sock] if self.leaving and self.started else [], [])
            if self.wakeup in ready:
                self._signals()
            if writable:
                self._send()
            if 0 in ready:
                self._input()
            if self.client.sock in ready:
                header, body = self.client.receive(self.stream.number)
                if "exit" in header:
                    return exit_code(int(header["exit"]))
                self._frame(header, body)

    def _frame(self, header: dict[str, Any], body: bytes) -> None:
        if "started" in header:
            self.started = True
        elif "stream" in header:
            write(int(header["stream"]), body)

    def _input(self) -> None:
        data = os.read(0, CHUNK)
        if data:
            self._tell("stdin", data)
        else:
            self._tell("eof")
            self.stdin = False

    def _signals(self) -> None:
        for number in self.wakeup.recv(64):
            if number == signal.SIGWINCH:
                rows, cols = _size()
                self._tell("resize", rows=rows, cols=cols)
                continue
            self.interrupts += 1
            if self.interrupts > 2:
                raise KeyboardInterrupt
            self._tell("signal", signal=int(signal.SIGINT))

    def _tell(self, op: str, body: bytes = b"", **more: Any) -> None:
        """Queue a frame; it leaves once there is a process and the socket takes it."""
        self.leaving += frames.pack({"op": op, "id": self.stream.number, **more}, body)

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            del self.leaving[: self.client.sock.send(self.leaving, socket.MSG_DONTWAIT)]


def write(stream: int, data: bytes) -> None:
    """Bytes to our standard output or error, at once."""
    file = sys.stdout if stream == 1 else sys.stderr
    raw = getattr(file, "buffer", None)
    if raw is None:
        click.echo(data.decode(errors="replace"), nl=False, err=stream != 1)
        return
    raw.write(data)
    raw.flush()


def exit_code(code: int) -> int:
    """A process's end as a shell tells it: 128 + n for signal n."""
    return 128 - code if code < 0 else code


def _size() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(0)
    except OSError:
        return 24, 80
    return size.lines, size.columns


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """SIGINT and SIGWINCH arrive as bytes on the socket while this lasts, instead of interrupting a frame in the middle."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    old_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    old = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGWINCH)}
    try:
        yield ours
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        ours.close()
        theirs.close()


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    """The terminal hands on keys as they are pressed while this lasts."""
    if not wanted:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
