"""What the built-in images answer: nginx, agnhost, http-echo, python, and images registered by others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kubenet.userland.images import IMAGES, image, python_image
from kubenet.userland.images.nginx import parse_conf
from kubenet.userland.vfs import volume


def test_nginx_serves_a_configmap_and_logs(lab: Any, box: Any) -> None:
    page = volume({"index.html": "<h1>hi</h1>\n"})
    web = lab.pod("web", "10.48.1.6", "nginx:1.27", mounts={"/usr/share/nginx/html": page})
    assert lab.run(box, "curl -s http://10.48.1.6/").out == "<h1>hi</h1>\n"
    line = r'10\.48\.1\.5 - - \[01/Jan/2026:00:00:\d\d \+0000\] "GET / HTTP/1\.1" 200 12 "-" "curl/7\.88\.1" "-"\n'
    assert re.fullmatch(line, web.log_text())
    missing = lab.run(box, "curl -si http://10.48.1.6/nope").out
    assert missing.startswith("HTTP/1.1 404 Not Found\r\nServer: nginx/1.27.4\r\n")
    assert missing.endswith("<center><h1>404 Not Found</h1></center>\r\n<hr><center>nginx/1.27.4</center>\r\n</body>\r\n</html>\r\n")


def test_nginx_configuration_return_and_proxy(lab: Any, box: Any) -> None:
    lab.pod("api", "10.48.1.8", "hashicorp/http-echo:1.0", args=["-text=from api", "-listen=:5678"])
    conf = volume({"default.conf": """
server {
    listen 8080;
    location / { return 200 "$hostname $remote_addr\\n"; }
    location /api/ { proxy_pass http://10.48.1.8:5678; }
    location /gone/ { proxy_pass http://10.48.1.8:1; }
    location = /old { return 301 /new; }
}"""})
    lab.pod("web", "10.48.1.6", "nginx:1.27", mounts={"/etc/nginx/conf.d": conf})
    assert lab.run(box, "curl -s http://10.48.1.6:8080/").out == "web 10.48.1.5\n"
    assert lab.run(box, "curl -s http://10.48.1.6:8080/api/x").out == "from api\n"
    assert lab.run(box, "curl -s -o /dev/null -w '%{http_code}' http://10.48.1.6:8080/gone/").out == "502"
    assert lab.run(box, "curl -s -o /dev/null -w '%{http_code} %{redirect_url}' http://10.48.1.6:8080/old").out == "301 http://10.48.1.6:8080/new"


def test_nginx_port_in_use_is_a_crash_with_its_words(lab: Any, web: Any) -> None:
    other = lab.container("other", "nginx:1.27", web.net)
    ended: list[int] = []
    other.on_exit = lambda container, code: ended.append(code)
    other.start()
    lab.wait(1)
    assert ended == [1]
    assert "bind() to 0.0.0.0:80 failed (98: Address already in use)" in other.log_text()


def test_keepalive_serves_two_requests_on_one_connection(lab: Any, box: Any, web: Any) -> None:
    source = """
import http.client
c = http.client.HTTPConnection("10.48.1.6")
for path in ("/", "/nope"):
    c.request("GET", path); r = c.getresponse(); print(r.status, len(r.read()), c.sock.getsockname()[1])"""
    lines = lab.python(box, source).out.split()
    assert (lines[0], lines[3]) == ("200", "404")
    assert lines[2] == lines[5]


AGNHOST = [
    ("/hostname", "web"),
    ("/echo?msg=hi%20there", "hi there"),
    ("/shell?cmd=echo%20a", '{"output":"a\\n"}'),
    ("/header?key=User-Agent", "curl/7.88.1"),
    ("/healthz", ""),
]


@pytest.mark.parametrize("path, body", AGNHOST)
def test_agnhost_netexec(lab: Any, box: Any, path: str, body: str) -> None:
    lab.pod("web", "10.48.1.6", "registry.k8s.io/e2e-test-images/agnhost:2.53", args=["netexec", "--http-port=8080"])
    assert lab.run(box, f"curl -s 'http://10.48.1.6:8080{path}'").out == body


def test_agnhost_client_ip_udp_and_exit(lab: Any, box: Any) -> None:
    web = lab.pod("web", "10.48.1.6", "agnhost:2.53", args=["netexec"])
    ended: list[int] = []
    web.on_exit = lambda container, code: ended.append(code)
    assert re.fullmatch(r"10\.48\.1\.5:\d+", lab.run(box, "curl -s http://10.48.1.6:8080/clientip").out)
    assert lab.run(box, "echo hostname | nc -u -w 1 10.48.1.6 8081").out == "web"
    lab.run(box, "curl -s 'http://10.48.1.6:8080/exit?code=3'")
    assert ended == [3]


def test_a_python_program_from_a_volume(lab: Any, box: Any) -> None:
    code = volume({"app.py": "import http.server\nhttp.server.test(http.server.SimpleHTTPRequestHandler, port=80)\n"})
    app = lab.pod("app", "10.48.1.6", "python:3.12-slim", command=["python3", "/app/app.py"], mounts={"/app": code})
    assert "app.py" in lab.run(box, "curl -s http://10.48.1.6/app/").out, app.log_text()


def test_images_can_be_registered(lab: Any, box: Any) -> None:
    @image("kn-test/hello:1.0")
    def hello(proc: Any, argv: list[str]) -> int:
        proc.out(f"hello {proc.env['NAME']}\n")
        return 4

    python_image("kn-test/py", "import os; print('py', os.getcwd())")
    try:
        one = lab.pod("one", "10.48.1.8", "kn-test/hello:1.0", env={"NAME": "you"})
        two = lab.pod("two", "10.48.1.9", "kn-test/py")
        assert (one.log_text(), one.main.exit_code) == ("hello you\n", 4)
        assert two.log_text() == "py /app\n"
    finally:
        del IMAGES["kn-test/hello"], IMAGES["kn-test/py"]


def test_configuration_parser_ignores_what_it_does_not_know() -> None:
    blocks = parse_conf("worker_processes 1; http { gzip on; server { listen 81; server_name a b; location / { root /x; foo bar; } } }")
    assert [(b.ports, [(loc.prefix, loc.root) for loc in b.locations]) for b in blocks] == [([81], [("/", "/x")])]


def test_touch_dates_a_copy_of_the_images_file(lab: Any) -> None:
    """overlayfs(5): the first change copies up, a change of times, too; another container of the image still has the image's file."""
    options = {"image": "python:3.12", "command": ["sleep", "infinity"]}
    one, two = lab.pod("one", "10.48.1.5", **options), lab.pod("two", "10.48.1.6", **options)
    look = "ls -l /etc/os-release; ls -ld /etc"
    lab.wait(3600)
    file, folder = lab.run(two, look).out.splitlines()
    assert lab.run(one, "touch /etc").code == 0
    assert lab.run(one, look).out.splitlines()[0] == file and lab.run(one, look).out.splitlines()[1] != folder
    lab.python(one, "import os; os.utime('/etc/os-release')")
    assert lab.run(one, look).out.splitlines()[0] != file and lab.run(two, look).out.splitlines() == [file, folder]
