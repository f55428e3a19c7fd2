"""Images: what a container starts with. A registry by name, with tags; names nobody registered are ErrImagePull.

    find_image("nginx:1.27")                         -> Image; LookupError with what a registry would say
    @image("http-echo:1.0", ports=[8080])            registers a native program main(proc, argv) as an image
    python_image("shop:2", SOURCE)                   registers a Python program as one

`docker.io/library/`, registries and digests in a reference are understood; a known repository has every tag that looks like a
version, and the usual words (latest, stable, alpine, slim). Files are one tree shared by all containers of the image; the
containers' writes go to layers of their own (vfs.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubenet.userland.vfs import Dir, Node, Program, tree

_COMMON_TAG = re.compile(r"(latest|stable|mainline|alpine|slim|glibc|musl|bookworm|edge|v?\d[\w.]*)(-[\w.]+)*")

SHELL = "sh echo printf true false test [ sleep date hostname env printenv pwd id whoami uname seq yes timeout which basename " \
        "dirname tty nproc uptime sync clear arch cat ls head tail wc sort uniq cut tr grep egrep fgrep tee mkdir rmdir rm cp mv " \
        "touch ln chmod chown stat find xargs readlink realpath du df mount base64 md5sum sha256sum rev tac nl od hexdump xxd sed " \
        "awk diff mktemp less more ps kill pkill killall pgrep pidof top free watch"
BUSYBOX = SHELL + " ash wget nslookup nc ping traceroute ip ifconfig route arp netstat arping dmesg sysctl"
DEBIAN = SHELL + " bash dash getent"
NET = "curl dig host getent ss ip nstat sysctl tcpdump conntrack iptables iptables-save iptables-restore iptables-legacy " \
      "iptables-legacy-save iptables-legacy-restore iptables-nft ip6tables ip6tables-save ip6tables-restore ethtool bridge ncat " \
      "netcat many-connect ping traceroute tracepath arping nslookup nc wget netstat ifconfig route arp dmesg strace ipset"


@dataclass
class Image:
    """One image. `tools` are put in /bin, /usr/bin or /usr/sbin; `files` anywhere."""

    name: str
    tools: str = ""
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes | str | Node] = field(default_factory=dict)
    workdir: str = "/"
    ports: list[int] = field(default_factory=list)
    stop_signal: str = "TERM"
    tags: tuple[str, ...] = ()  # further tags than the usual ones
    digest: str = ""
    _root: Dir | None = None

    def root(self) -> Dir:
        """The image's files; made once, never changed."""
        if self._root is None:
            files: dict[str, bytes | str | Node] = {
                "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
                "/etc/group": "root:x:0:\nnobody:x:65534:\n",
                "/etc/nsswitch.conf": "hosts:          files dns\n",
                "/etc/services": SERVICES,
                "/etc/os-release": f'NAME="kubenet"\nID=kubenet\nPRETTY_NAME="kubenet {self.name}"\n',
                "/bin/": b"", "/sbin/": b"", "/usr/bin/": b"", "/usr/sbin/": b"", "/usr/local/bin/": b"", "/root/": b"",
                "/tmp/": b"", "/var/log/": b"", "/var/run/": b"", "/home/": b"",
            }
            for name in self.tools.split():
                files[place(name)] = Program(name)
            files.update(self.files)
            self._root = tree(files)
            if "busybox" in self.name:
                for name in self.tools.split():
                    self._root.get("bin").put(name, Program(name))  # type: ignore[union-attr]
        return self._root


_SBIN = "ip ss bridge tcpdump conntrack iptables ipset sysctl ethtool arping nginx httpd traceroute ifconfig route arp"
_BIN = "sh ash bash dash cat ls echo sleep date hostname pwd uname true false ps kill mkdir rm cp mv ln chmod touch grep ping"


def place(name: str) -> str:
    """Where a distribution puts the tool."""
    if name in _BIN.split():
        return f"/bin/{name}"
    if name.split("-")[0] in _SBIN.split() or name.startswith("ip6tables"):
        return f"/usr/sbin/{name}"
    return f"/usr/bin/{name}"


SERVICES = """ftp\t\t21/tcp
ssh\t\t22/tcp
telnet\t\t23/tcp
smtp\t\t25/tcp
domain\t\t53/tcp
domain\t\t53/udp
http\t\t80/tcp
pop3\t\t110/tcp
ntp\t\t123/udp
https\t\t443/tcp
postgresql\t5432/tcp
http-alt\t8080/tcp
"""

IMAGES: dict[str, Image] = {}


def register(image: Image) -> Image:
    """The image exists from now on, under its repository name (a tag in it becomes the only odd tag it has)."""
    repository, _, tag = image.name.partition(":")
    if tag:
        image.tags = (*image.tags, tag)
    IMAGES[repository] = image
    return image


def image(
    name: str,
    ports: list[int] | None = None,
    env: Mapping[str, str] | None = None,
    tools: str = SHELL,
    files: Mapping[str, bytes | str | Node] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a native program main(proc, argv) as an image of that name."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        from kubenet.userland.tools import REGISTRY

        command = name.partition(":")[0].rpartition("/")[2]
        REGISTRY[f"image:{name}"] = fn
        program: dict[str, bytes | str | Node] = {f"/usr/local/bin/{command}": Program(f"image:{name}")}
        register(Image(name, tools, [f"/usr/local/bin/{command}"], env=dict(env or {}), ports=list(ports or []),
                       files={**program, **(files or {})}))
        return fn

    return decorate


def python_image(name: str, source: str, ports: list[int] | None = None, env: Mapping[str, str] | None = None) -> Image:
    """Register a Python program, given as source, as an image."""
    base = IMAGES["python"]
    return register(Image(name, base.tools, ["python3", "/app/main.py"], env={**base.env, **(env or {})}, workdir="/app",
                          ports=list(ports or []), files={**base.files, "/app/main.py": source}))


def normalize(reference: str) -> tuple[str, str]:
    """(repository, tag) of a reference: registry host, docker.io/library/ and @sha256 digest taken away."""
    reference = reference.partition("@")[0]
    head, slash, rest = reference.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        reference = rest
    repository, _, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "latest")
    return repository.removeprefix("library/"), tag


def find_image(reference: str) -> Image:
    """The image. Raises LookupError with the words of a registry: unknown repository, or unknown tag."""
    repository, tag = normalize(reference)
    found = IMAGES.get(repository) or IMAGES.get(repository.rpartition("/")[2])
    if found is None:
        full = f"docker.io/{repository if '/' in repository else 'library/' + repository}"
        raise LookupError(
            f'failed to pull and unpack image "{full}:{tag}": failed to resolve reference "{full}:{tag}": pull access denied, '
            "repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"
        )
    if tag not in found.tags and not _COMMON_TAG.fullmatch(tag):
        full = f"docker.io/{repository if '/' in repository else 'library/' + repository}"
        raise LookupError(
            f'rpc error: code = NotFound desc = failed to pull and unpack image "{full}:{tag}": failed to resolve reference '
            f'"{full}:{tag}": {full}:{tag}: not found'
        )
    return found


def known_images() -> list[str]:
    """The repositories there are, sorted."""
    return sorted(IMAGES)


def _builtin() -> None:
    python_env = {"PYTHON_VERSION": "3.11", "LANG": "C.UTF-8"}
    nginx_page = (
        "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n<body>\n<h1>Welcome to nginx!</h1>\n"
        "<p>If you see this page, the nginx web server is successfully installed and\nworking. Further configuration is "
        "required.</p>\n\n<p><em>Thank you for using nginx.</em></p>\n</body>\n</html>\n"
    )
    everything = f"{SHELL} bash dash ash {NET}"
    for made in (
        Image("busybox", BUSYBOX, cmd=["sh"]),
        Image("alpine", BUSYBOX + " getent", cmd=["/bin/sh"]),
        Image("debian", DEBIAN, cmd=["bash"]),
        Image("ubuntu", DEBIAN, cmd=["bash"]),
        Image("curl", BUSYBOX + " curl", ["curl"]),
        Image("netshoot", everything + " python3", cmd=["bash"]),
        Image("node", everything + " python3 pause node-init", ["/usr/bin/node-init"]),
        Image("pause", "pause", ["/pause"], files={"/pause": Program("pause")}),
        Image("nginx", DEBIAN + " curl nginx", ["/docker-entrypoint.sh"], ["nginx", "-g", "daemon off;"],
              {"NGINX_VERSION": "1.27.4"}, ports=[80], stop_signal="QUIT",
              files={"/usr/share/nginx/html/index.html": nginx_page, "/docker-entrypoint.sh": Program("nginx"),
                     "/etc/nginx/nginx.conf": "events {}\nhttp { include /etc/nginx/conf.d/*.conf; }\n",
                     "/etc/nginx/conf.d/default.conf": NGINX_CONF, "/var/log/nginx/": b""}),
        Image("httpd", DEBIAN + " httpd", ["httpd"], ports=[80], stop_signal="WINCH",
              files={"/usr/local/apache2/htdocs/index.html": "<html><body><h1>It works!</h1></body></html>\n"}),
        Image("agnhost", BUSYBOX + " curl dig agnhost", ["/agnhost"], ["pause"], files={"/agnhost": Program("agnhost")}),
        Image("serve-hostname", BUSYBOX + " agnhost", ["/agnhost", "serve-hostname"], files={"/agnhost": Program("agnhost")}),
        Image("http-echo", "http-echo", ["/http-echo"], ports=[5678], files={"/http-echo": Program("http-echo")}),
        Image("echoserver", BUSYBOX + " echoserver", ["/echoserver"], ports=[8080],
              files={"/echoserver": Program("echoserver")}),
        Image("python", DEBIAN + " python3 python", cmd=["python3"], env=python_env),
    ):
        register(made)
    for alias, name in (("curlimages/curl", "curl"), ("nicolaka/netshoot", "netshoot"), ("e2e-test-images/agnhost", "agnhost"),
                        ("hashicorp/http-echo", "http-echo"), ("nginxdemos/hello", "nginx"), ("nettools", "netshoot")):
        IMAGES[alias] = IMAGES[name]


NGINX_CONF = """server {
    listen       80;
    server_name  localhost;

    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }
}
"""

_builtin()

__all__ = ["IMAGES", "Image", "find_image", "image", "known_images", "normalize", "python_image", "register"]
