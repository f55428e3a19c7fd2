"""The pod world: unmodified Python on the emulated kernel, on virtual time, and nothing of the host within reach."""

from __future__ import annotations

import threading
from typing import Any

import pytest

HTTP_SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.client_address[0]} {self.path}".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
ThreadingHTTPServer(("", 8080), H).serve_forever()
"""
ASYNC_SERVER = """
import asyncio
async def handle(reader, writer):
    line = await reader.readline()
    await asyncio.sleep(0.5)
    writer.write(b"echo " + line); await writer.drain(); writer.close()
async def main():
    server = await asyncio.start_server(handle, "", 8081)
    await server.serve_forever()
asyncio.run(main())
"""
XMLRPC_SERVER = """
from xmlrpc.server import SimpleXMLRPCServer
s = SimpleXMLRPCServer(("", 8082), logRequests=False); s.register_function(lambda a, b: a + b, "add"); s.serve_forever()
"""
SOCKETSERVER = """
import socketserver
class H(socketserver.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.readline().upper())
socketserver.ThreadingTCPServer(("", 8083), H).serve_forever()
"""
UDP_SERVER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 8084))
while True:
    data, peer = s.recvfrom(2048); s.sendto(data[::-1], peer)
"""


@pytest.fixture
def server(lab: Any) -> Any:
    return lab.pod("server", "10.48.1.7", "python:3.12", command=["sleep", "infinity"])


def serve(lab: Any, server: Any, source: str) -> None:
    proc = lab.start(server, ["python3", "-c", source])
    lab.wait(0.5)
    assert not proc.done, proc.stderr_bytes().decode()


CLIENTS = [
    (HTTP_SERVER, "import urllib.request as u; print(u.urlopen('http://10.48.1.7:8080/x').read())", "b'10.48.1.5 /x'\n"),
    (ASYNC_SERVER, """
import asyncio, time
async def one(i):
    r, w = await asyncio.open_connection("10.48.1.7", 8081)
    w.write(b"%d\\n" % i); d = await r.readline(); w.close(); return d.decode().strip()
async def main():
    t = time.time()
    print(await asyncio.gather(*(one(i) for i in range(5))), round(time.time() - t, 3))
asyncio.run(main())""", "['echo 0', 'echo 1', 'echo 2', 'echo 3', 'echo 4'] 0.5\n"),
    (XMLRPC_SERVER, "import xmlrpc.client as x; print(x.ServerProxy('http://10.48.1.7:8082').add(2, 3))", "5\n"),
    (SOCKETSERVER, """
import socket
with socket.create_connection(("10.48.1.7", 8083), timeout=3) as s:
    s.sendall(b"abc\\n"); print(s.makefile().read().strip())""", "ABC\n"),
    (UDP_SERVER, """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.sendto(b"abc", ("10.48.1.7", 8084))
print(s.recvfrom(100))""", "(b'cba', ('10.48.1.7', 8084))\n"),
]


@pytest.mark.parametrize("source, client, out", CLIENTS, ids=["http", "asyncio", "xmlrpc", "socketserver", "udp"])
def test_stock_servers_and_clients(lab: Any, box: Any, server: Any, source: str, client: str, out: str) -> None:
    serve(lab, server, source)
    result = lab.python(box, client)
    assert result.out == out, result.err
    assert threading.active_count() == 1  # no thread of the host was started


PROGRAMS = [
    ("sleep is virtual", "import time; t = time.time(); time.sleep(3600); print(round(time.time() - t))", "3600\n"),
    ("threads", """
import threading, time, queue
q = queue.Queue()
def f(n): time.sleep(n); q.put(n)
ts = [threading.Thread(target=f, args=(n,)) for n in (3, 1, 2)]
[t.start() for t in ts]; [t.join() for t in ts]
print([q.get() for _ in ts], threading.active_count())""", "[1, 2, 3] 1\n"),
    ("locks", """
import threading, time
lock, log = threading.RLock(), []
def f(n):
    with lock:
        log.append(n); time.sleep(1); log.append(n)
ts = [threading.Thread(target=f, args=(n,)) for n in range(3)]
[t.start() for t in ts]; [t.join() for t in ts]; print(log)""", "[0, 0, 1, 1, 2, 2]\n"),
    ("thread-local", """
import threading
local = threading.local(); local.x = 1
def f(): print(hasattr(local, "x"))
t = threading.Thread(target=f); t.start(); t.join(); print(local.x)""", "False\n1\n"),
    ("executor", """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool: print(list(pool.map(lambda n: n * n, range(5))))""", "[0, 1, 4, 9, 16]\n"),
    ("subprocess", """
import subprocess
print(subprocess.run(["sh", "-c", "cat; exit 3"], input=b"hi", capture_output=True))
print(subprocess.check_output("echo $X", shell=True, text=True, env={"X": "y", "PATH": "/bin"}).strip())
try: subprocess.run(["nope"])
except FileNotFoundError as e: print(e.filename)
try: subprocess.run(["sleep", "9"], timeout=1)
except subprocess.TimeoutExpired as e: print("timeout", e.timeout)""",
     "CompletedProcess(args=['sh', '-c', 'cat; exit 3'], returncode=3, stdout=b'hi', stderr=b'')\ny\nnope\ntimeout 1.0\n"),
    ("signals", """
import os, signal, time
signal.signal(signal.SIGALRM, lambda n, f: print("alarm", n))
signal.alarm(2); t = time.monotonic(); time.sleep(5); print(time.monotonic() - t)""", "alarm 14\n5.0\n"),
    ("files", """
import pathlib, tempfile, os, shutil
d = tempfile.mkdtemp(); p = pathlib.Path(d, "a.txt"); p.write_text("x\\ny\\n")
with open(p, "a") as f: f.write("z")
print(p.read_text().split(), sorted(os.listdir(d)), p.stat().st_size); shutil.rmtree(d); print(p.exists())""",
     "['x', 'y', 'z'] ['a.txt'] 5\nFalse\n"),
    ("selectors", """
import selectors, socket
a, b = socket.socketpair(); s = selectors.DefaultSelector(); s.register(a, selectors.EVENT_READ)
print(s.select(1)); b.send(b"x"); print([m for _, m in s.select(1)], a.recv(9))""", "[]\n[1] b'x'\n"),
    ("dataclasses, enums, pickle, json", """
import dataclasses, enum, json, pickle, collections
@dataclasses.dataclass
class A: x: int = 1
class E(enum.Enum): a = 1
print(A(), E.a, pickle.loads(pickle.dumps(A(5))), json.dumps({"a": [1]}))""", "A(x=1) E.a A(x=5) {\"a\": [1]}\n"),
    ("unix sockets", """
import os, socket, stat, threading
s = socket.socket(socket.AF_UNIX); s.bind("/tmp/s"); s.listen(1)
print(stat.S_ISSOCK(os.stat("/tmp/s").st_mode), s.getsockname())
def serve():
    c, _ = s.accept(); c.sendall(c.recv(9).upper()); c.recv(9); c.close()
threading.Thread(target=serve).start()
c = socket.socket(socket.AF_UNIX); c.connect("/tmp/s"); c.sendall(b"abc"); print(c.recv(9), c.getpeername()); c.close()
try: socket.socket(socket.AF_UNIX).connect("/tmp/none")
except OSError as e: print(e.errno)
try: socket.socket(socket.AF_UNIX).bind("/tmp/s")
except OSError as e: print(e.errno)""", "True /tmp/s\nb'ABC' /tmp/s\n2\n98\n"),
    ("time of day", "import datetime; print(datetime.datetime.now().date())", "2026-01-01\n"),
    ("destructors", "class D:\n    def __del__(self): print('bye')\nd = D()\nprint('hi')", "hi\nbye\n"),
    ("SystemExit", "import sys; print('a'); sys.exit(0)", "a\n"),
    ("own modules", """
import sys, os
os.makedirs("/tmp/pkg/sub"); open("/tmp/pkg/__init__.py", "w").write("from .a import x")
open("/tmp/pkg/a.py", "w").write("from .sub import y\\nx = y + 1"); open("/tmp/pkg/sub/__init__.py", "w").write("y = 1")
sys.path.insert(0, "/tmp"); import pkg; print(pkg.x, pkg.a.__name__, pkg.__file__)""", "2 pkg.a /tmp/pkg/__init__.py\n"),
    ("asyncio order", """
import asyncio
async def f(n): await asyncio.sleep(0.1); return n
async def main():
    done, _ = await asyncio.wait([asyncio.ensure_future(f(n)) for n in range(8)])
    print([t.result() for t in done])
asyncio.run(main())""", None),
]


@pytest.mark.parametrize("name, source, out", PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_program(lab: Any, box: Any, name: str, source: str, out: str | None) -> None:
    result = lab.python(box, source)
    assert result.code == 0, result.err
    if out is None:  # any order, but the same each time
        assert lab.python(box, source).out == result.out
    else:
        assert result.out == out


def test_an_uncaught_exception_is_a_traceback_and_exit_code_1(lab: Any, box: Any) -> None:
    result = lab.python(box, "def f():\n    raise KeyError('x')\nf()")
    assert result.code == 1
    assert result.err == ('Traceback (most recent call last):\n  File "<string>", line 3, in <module>\n'
                          '  File "<string>", line 2, in f\nKeyError: \'x\'\n')


def test_a_traceback_shows_the_library_but_not_the_emulator(lab: Any, box: Any) -> None:
    result = lab.python(box, "import socket\nsocket.create_connection(('127.0.0.1', 9))")
    assert 'File "/usr/lib/python3.11/socket.py"'.replace("3.11", POD_VERSION) in result.err
    assert "kubenet" not in result.err
    assert result.err.endswith("ConnectionRefusedError: [Errno 111] Connection refused\n")


def test_output_into_a_pipe_is_buffered_as_cpython_does(lab: Any, box: Any) -> None:
    """A killed program that did not flush loses what it printed; with -u it does not."""
    source = "import os\nprint('hello')\nos.kill(os.getpid(), 9)"
    assert lab.python(box, source).out == ""
    assert lab.run(box, ["python3", "-u", "-c", source]).out == "hello\n"


def test_two_pods_do_not_see_each_others_patches(lab: Any, box: Any, server: Any) -> None:
    lab.python(box, "import time, socket, json; time.sleep = None; socket.socket = None")
    assert lab.python(server, "import time, socket; time.sleep(1); socket.socket().close(); print('ok')").out == "ok\n"


def test_random_numbers_come_from_the_seed(lab: Any, box: Any) -> None:
    from pod_lab import Lab

    source = "import random, uuid, os, secrets; print(random.random(), uuid.uuid4(), os.urandom(4).hex(), secrets.token_hex(4))"
    here = lab.python(box, source).out
    other = Lab()
    assert other.python(other.pod("client", "10.48.1.5"), source).out == here


def test_module_and_stdin_programs(lab: Any, box: Any) -> None:
    assert lab.run(box, ["python3", "-m", "json.tool"], stdin=b'{"a":1}').out == '{\n    "a": 1\n}\n'
    assert lab.run(box, "echo 'import sys; print(sys.argv)' > /tmp/p.py; python3 /tmp/p.py x").out == "['/tmp/p.py', 'x']\n"
    assert lab.run(box, ["python3"], stdin=b"print(6 * 7)").out == "42\n"


REACHES = [
    "open({p!r}).read()",
    "import os; os.listdir({d!r})",
    "import os; os.read(os.open({p!r}, 0), 9)",
    "import pathlib; pathlib.Path({p!r}).read_text()",
    "import io; io.FileIO({p!r}).read()",
    "import io; io.open({p!r}).read()",
    "import io; io.open_code({p!r}).read()",
    "import _io; _io.open({p!r}).read()",
    "import _io; _io.FileIO({p!r})",
    "import posix; posix.open({p!r}, 0)",
    "import codecs; codecs.open({p!r}).read()",
    "import tokenize; tokenize.open({p!r})",
    "import linecache; assert linecache.getlines({p!r}), 'empty'",
    "import fileinput; list(fileinput.input({p!r}))",
    "import importlib.machinery as m; m.SourceFileLoader('x', {p!r}).get_data({p!r})",
    "import importlib.util as u; s = u.spec_from_file_location('x', {p!r}); s.loader.get_code('x')",
    "import runpy; runpy.run_path({p!r})",
    "import ctypes; ctypes.CDLL(None)",
    "import mmap; mmap.mmap(0, 1)",
    "import multiprocessing; multiprocessing.Process()",
    "import _posixsubprocess, subprocess; subprocess.check_output(['cat', {p!r}])",
    "import os; os.execv('/bin/cat', ['cat', {p!r}])",
    "import os; os.fork()",
    "import os; raise SystemExit(os.system('cat ' + {p!r}) >> 8)",
    "open('/proc/self/root' + {p!r})",
    "open('/proc/self/cwd/../../..' + {p!r})",
    "import sqlite3; sqlite3.connect({p!r}).execute('select 1')",
    "import zipfile; zipfile.ZipFile({p!r})",
    "import shutil; shutil.copy({p!r}, '/tmp/x')",
    "import glob; assert glob.glob({p!r}), 'none'",
    "import os; os.stat({p!r})",
    "import kubenet",
    "import greenlet",
]


@pytest.mark.parametrize("attempt", REACHES)
def test_no_host_file_is_within_reach(lab: Any, box: Any, tmp_path: Any, attempt: str) -> None:
    """Every ordinary way to a file or process of the host fails, and the secret is not printed."""
    secret = tmp_path / "secret.txt"
    secret.write_text("HOST-SECRET = 1\n")
    result = lab.python(box, f"print({attempt!r} and None)\n" + attempt.format(p=str(secret), d=str(tmp_path)))
    assert result.code != 0
    assert "HOST-SECRET" not in result.out + result.err


def test_refused_modules_say_so_with_enosys(lab: Any, box: Any) -> None:
    source = "try: import ctypes\nexcept ImportError as e: print(e.errno, e)"
    assert lab.python(box, source).out == "38 ctypes: Function not implemented (calling C code is not available in a kubenet pod)\n"
    assert lab.python(box, "import os\ntry: os.fork()\nexcept OSError as e: print(e.errno)").out == "38\n"


POD_VERSION = __import__("kubenet.userland.world", fromlist=["POD_LIB"]).POD_LIB.rpartition("python")[2]


def test_the_prompt_shows_values_in_the_pod_and_nowhere_else(lab: Any, box: Any, capfd: Any) -> None:
    from kubenet.userland.container import feed

    seen: list[bytes] = []
    proc = box.exec(["python3"], stdin=True, tty=True, on_output=lambda _stream, data: seen.append(data))
    lab.wait(0.1)
    for line in (b"x = 5\r", b"x * 2\r", b"def f():\r", b"  return 'seven'\r", b"\r", b"f()\r", b"1/0\r", b"exit(3)\r"):
        feed(proc, line)
        lab.wait(0.1)
    assert b"".join(seen).decode().replace("\r", "") == (
        ">>> x = 5\n>>> x * 2\n10\n>>> def f():\n...   return 'seven'\n... \n>>> f()\n'seven'\n>>> 1/0\n"
        'Traceback (most recent call last):\n  File "<stdin>", line 1, in <module>\nZeroDivisionError: division by zero\n>>> exit(3)\n')
    assert proc.exit_code == 3
    assert capfd.readouterr() == ("", "")


def test_nothing_a_program_prints_reaches_the_host(lab: Any, box: Any, capfd: Any) -> None:
    lab.python(box, """
import sys, warnings, threading, code, traceback
print("x"); print("y", file=sys.stderr); sys.stdout.write("z"); warnings.warn("w"); exec(compile("41 + 1", "s", "single"))
threading.Thread(target=lambda: 1 / 0).start()
""")
    assert capfd.readouterr() == ("", "")
