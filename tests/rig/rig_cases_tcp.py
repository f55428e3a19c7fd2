"""TCP between two real sockets: opening, queues, buffers, loss, closing. Topology pair: a calls, b serves."""

from __future__ import annotations

from rig_topology import Case

B = "10.1.0.1:8080"
OPEN = f"""
    b: listen L 8080
    a: connect C {B} from=:40000
    b: accept S L
"""


def case(name: str, script: str, *sysctls: str, rules: tuple[tuple[str, str], ...] = (), gap: float = 0.005) -> Case:
    """A row on topology pair; sysctls are "b net.ipv4.x=1"."""
    parsed = [(text.split()[0], *text.split(maxsplit=1)[1].split("=")) for text in sysctls]
    return Case(name, "pair", script, tuple((h, k, v) for h, k, v in parsed), rules, gap)


def opened(name: str, script: str, *sysctls: str, rules: tuple[tuple[str, str], ...] = ()) -> Case:
    """A row that begins with an established connection C - S."""
    return case(name, OPEN + script, *sysctls, rules=rules)


CLOSING = [
    opened("close-client-first", "a: close C\nb: recv S 10\na: ss\nb: ss\nb: close S\na: ss"),
    opened("close-server-first", "b: close S\na: recv C 10\nb: ss\na: close C"),
    opened("close-both-data-before", "a: send C 100\nb: recv S 100\nb: send S 50\na: recv C 50\na: close C\nb: recv S 10\nb: close S"),
    opened("close-unread", "a: send C 10\nb: close S\na: poll C\na: recv C 10\na: recv C 10\na: send C 5\nb: ss"),
    opened("close-unread-then-fin", "a: send C 10\na: close C\nb: close S\na: ss\nb: ss"),
    opened("linger-0", "a: opt C SO_LINGER 1/0\na: close C\nb: poll S\nb: recv S 10\nb: recv S 10\nb: send S 5"),
    opened("linger-0-unsent", "a: send C 100\na: opt C SO_LINGER 1/0\na: close C\nb: recv S 10"),
    opened("linger-1", "a: opt C SO_LINGER 1/1\na: send C 10\na: close C\nb: recv S 100\nb: recv S 10\nb: close S"),
    opened("linger-1-peer-silent", "b: iptables -A INPUT -p tcp -j DROP\na: opt C SO_LINGER 1/1\na: send C 10\na: close C\na: ss\nwait 0.5"),
    opened("data-after-close", "b: close S\na: poll C\na: send C 5\na: poll C\na: send C 5\na: recv C 10\na: getopt C SO_ERROR"),
    opened("data-after-close-no-recv", "b: close S\na: send C 5\na: recv C 10\na: recv C 10\na: send C 5"),
    opened("half-close", "a: shutdown C wr\nb: recv S 10\nb: poll S\nb: send S 10\na: recv C 20\na: send C 5\nb: close S\na: recv C 20\na: poll C\na: ss"),
    opened("half-close-twice", "a: shutdown C wr\na: shutdown C wr\nb: shutdown S wr\nb: shutdown S rdwr\na: ss\nb: ss\na: shutdown C wr"),
    opened("shutdown-rd", "a: shutdown C rd\na: recv C 10\nb: send S 10\na: recv C 20\na: poll C\nb: ss"),
    opened("shutdown-rdwr", "a: shutdown C rdwr\na: recv C 10\na: send C 1\nb: send S 10\nb: recv S 10\nb: send S 10\na: ss"),
    opened("shutdown-unconnected", "a: tcp D\na: shutdown D wr\na: poll D\na: send D 1\na: recv D 1\na: peername D"),
    opened("shutdown-listener", "b: shutdown L rd\nb: accept T L timeout=0.1\nb: ss\na: connect D 10.1.0.1:8080 from=:40001"),
    opened("close-listener-queue", "a: connect D 10.1.0.1:8080 from=:40001\nb: close L\na: poll D\na: recv D 10\na: send C 3\nb: recv S 10"),
    opened("fin-wait-2-orphan", "a: close C\na: ss\nwait 1\na: ss\nwait 1.6\na: ss\nb: send S 5\nb: recv S 10\nb: recv S 10\nb: send S 5",
           "a net.ipv4.tcp_fin_timeout=2"),
    opened("fin-wait-2-linger2", "a: opt C TCP_LINGER2 1\na: close C\nwait 1.5\na: ss\nb: send S 5\nb: recv S 10"),
    opened("fin-wait-2-orphan-data", "a: close C\nb: send S 5\nb: send S 5\nb: recv S 10"),
    opened("fin-wait-2-kept", "a: shutdown C wr\nwait 3\na: ss\nb: send S 5\na: recv C 10", "a net.ipv4.tcp_fin_timeout=1"),
    opened("close-before-accept", "a: connect D 10.1.0.1:8080 from=:40001\na: send D 5\na: close D\nb: ss\nb: accept T L\nb: recv T 10\nb: recv T 10\nb: close T"),
    opened("reset-before-accept", "a: connect D 10.1.0.1:8080 from=:40001 opts=SO_LINGER:1/0\na: close D\nb: ss\nb: accept T L timeout=0.2\nb: recv T 10\nb: getopt T SO_ERROR"),
    opened("fin-lost", "b: iptables -A INPUT -p tcp --tcp-flags FIN FIN -j DROP\na: close C\nwait 1\nb: iptables -F\nwait 1.2\nb: recv S 10\nb: close S\na: ss\nb: ss"),
    opened("both-fins-lost", "a: iptables -A INPUT -p tcp --tcp-flags FIN FIN -j DROP\nb: iptables -A INPUT -p tcp --tcp-flags FIN FIN -j DROP\n"
           "a: close C\nb: close S\na: ss\nb: ss\na: iptables -F\nb: iptables -F\nwait 0.7\na: ss\nb: ss"),
    opened("last-ack-lost", "a: close C\nb: recv S 5\nb: iptables -A INPUT -p tcp -j DROP\nb: close S\nb: ss\nwait 0.3\nb: iptables -F\nwait 0.4\nb: ss\na: ss"),
    opened("time-wait-reconnect", "a: close C\nb: close S\na: ss\na: connect D 10.1.0.1:8080 from=:40000 opts=SO_REUSEADDR\nb: accept T L\na: send D 5\nb: recv T 9"),
    opened("time-wait-server-reconnect", "b: close S\na: close C\nb: ss\na: connect D 10.1.0.1:8080 from=:40000\nb: accept T L\na: send D 5\nb: recv T 9\nb: ss"),
    opened("time-wait-server-reconnect-no-ts", "b: close S\na: close C\nb: ss\nwait 1\na: connect D 10.1.0.1:8080 from=:40000\nb: accept T L\nb: ss",
           "a net.ipv4.tcp_timestamps=0"),
    opened("time-wait-buckets-0", "a: close C\nb: recv S 5\nb: close S\na: ss\nb: ss", "a net.ipv4.tcp_max_tw_buckets=0"),
    opened("recv-after-reset-with-data", "b: send S 10\nb: opt S SO_LINGER 1/0\nb: close S\na: poll C\na: recv C 5\na: recv C 5"),
    opened("reset-unsent-error-once", "b: opt S SO_LINGER 1/0\nb: close S\na: getopt C SO_ERROR\na: getopt C SO_ERROR\na: send C 5\na: recv C 5\na: poll C"),
    opened("close-no-read-large", "a: fill C 200000\nb: close S\na: recv C 1\na: ss"),
]

CONNECTING = [
    case("connect-refused", f"a: connect C {B} from=:40000\na: getopt C SO_ERROR\na: poll C\na: sockname C\na: connect C {B}\nb: listen L 8080\na: connect C {B}"),
    case("connect-refused-nonblocking", f"a: start C {B} from=:40000\na: poll C\na: getopt C SO_ERROR\na: getopt C SO_ERROR\na: recv C 1"),
    case("connect-nonblocking", f"b: listen L 8080\na: start C {B} from=:40000\na: poll C\na: start C {B}\na: start C {B}\na: peername C"),
    case("connect-twice", f"b: listen L 8080\na: connect C {B} from=:40000\na: connect C {B}\na: connect C 10.1.0.1:81"),
    case("connect-already", f"b: iptables -A INPUT -j DROP\na: start C {B} from=:40000\na: start C {B}\na: ss\na: poll C\na: send C 1\na: recv C 1 timeout=0.1\na: close C\na: ss"),
    case("connect-syncnt", f"b: iptables -A INPUT -j DROP\na: tcp C from=:40000 opts=TCP_SYNCNT:2\na: connect C {B} timeout=30"),
    case("connect-blackhole", f"b: iptables -A INPUT -j DROP\na: connect C {B} from=:40000 timeout=8\na: ss", gap=0.001),
    case("connect-user-timeout", f"b: iptables -A INPUT -j DROP\na: tcp C from=:40000 opts=TCP_USER_TIMEOUT:2500\na: connect C {B} timeout=30"),
    case("connect-linear-0", f"b: iptables -A INPUT -j DROP\na: tcp C from=:40000\na: connect C {B} timeout=30",
         "a net.ipv4.tcp_syn_linear_timeouts=0", "a net.ipv4.tcp_syn_retries=2"),
    case("connect-no-arp", "a: connect C 10.1.0.9:80 from=:40000 timeout=8\na: ip neigh show\na: udp U from=:40001\na: connect U 10.1.0.8:80\na: send U 5\nwait 3.3\na: send U 5\na: getopt U SO_ERROR"),
    case("connect-no-arp-udp-recverr", "a: udp U from=:40001 opts=IP_RECVERR\na: connect U 10.1.0.8:80\na: send U 5\nwait 3.5\na: getopt U SO_ERROR\na: send U 5"),
    case("connect-no-route", "a: connect C 192.0.2.1:80\na: udp U\na: connect U 192.0.2.1:80\na: sendto U 192.0.2.1:80 5"),
    case("connect-blackhole-routes", "a: ip route add blackhole 192.0.2.0/28\na: ip route add unreachable 192.0.2.16/28\na: ip route add prohibit 192.0.2.32/28\n"
         "a: connect C 192.0.2.1:80\na: connect D 192.0.2.17:80\na: connect E 192.0.2.33:80\na: udp U\na: sendto U 192.0.2.1:8 5\na: sendto U 192.0.2.17:8 5\na: sendto U 192.0.2.33:8 5"),
    case("connect-odd-targets", "a: connect C 10.1.0.255:80\na: connect D 255.255.255.255:80\na: connect E 224.0.0.1:80\na: connect F 0.0.0.0:80\na: connect G 10.1.0.0:80 timeout=1"
         "\na: udp U\na: sendto U 10.1.0.255:80 5\na: opt U SO_BROADCAST\na: sendto U 10.1.0.255:80 5\na: sendto U 0.0.0.0:80 3"),
    case("connect-self", "a: tcp C from=127.0.0.1:40000\na: connect C 127.0.0.1:40000\na: send C 5\na: recv C 10\na: ss\na: shutdown C wr\na: recv C 5\na: ss\na: close C\na: ss"),
    case("connect-loopback", "a: listen L 8080\na: connect C 127.0.0.1:8080 from=:40000\na: accept S L\na: send C 5\na: recv S 5\na: close C\na: close S\na: ss"),
    case("connect-own-address", "a: listen L 8080\na: connect C 10.1.0.2:8080 from=:40000\na: accept S L\na: peername C\na: sockname C\na: close C\na: close S"),
    case("connect-output-reject", f"a: iptables -A OUTPUT -p tcp -j REJECT\na: connect C {B} from=:40000 timeout=1\na: iptables -R OUTPUT 1 -p tcp -j REJECT --reject-with tcp-reset\na: connect D {B} from=:40001"),
    case("connect-output-drop", f"a: iptables -A OUTPUT -j DROP\na: connect C {B} from=:40000 timeout=1.5\na: udp U from=:40001\na: sendto U 10.1.0.1:80 5\na: icmp 10.1.0.2 10.1.0.1"),
    *[case(f"connect-input-{how}", f"b: iptables -A INPUT -p tcp -j REJECT --reject-with {how}\na: connect C {B} from=:40000 timeout=2.5\na: getopt C SO_ERROR")
      for how in ("icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable", "icmp-net-prohibited",
                  "icmp-host-prohibited", "icmp-admin-prohibited", "tcp-reset")],
    case("synack-lost", f"b: listen L 8080\na: iptables -A INPUT -p tcp -j DROP\na: start C {B} from=:40000\nb: ss\nwait 3.5\nb: ss\na: iptables -F\nwait 5\na: ss\nb: ss"),
    case("first-ack-lost", f"b: listen L 8080\nb: iptables -A INPUT -p tcp --tcp-flags SYN,ACK ACK -j DROP\na: connect C {B} from=:40000\na: send C 5\nwait 0.3\nb: ss\nb: iptables -F\nwait 1.2\nb: ss\nb: accept S L\nb: recv S 9"),
    case("synack-retries-1", f"b: listen L 8080\na: iptables -A INPUT -p tcp -j DROP\na: start C {B} from=:40000\na: iptables -A OUTPUT -p tcp -j DROP\nwait 4.5\nb: ss",
         "b net.ipv4.tcp_synack_retries=1"),
]

HANDSHAKES = [
    *[case(f"handshake-{name}", f"b: listen L 8080\na: connect C {B} from=:40000\nb: accept S L\na: send C 5\nb: recv S 5\nb: send S 5\na: recv C 5", *sysctls)
      for name, sysctls in {
          "no-timestamps": ("a net.ipv4.tcp_timestamps=0",), "server-no-timestamps": ("b net.ipv4.tcp_timestamps=0",),
          "no-scaling": ("a net.ipv4.tcp_window_scaling=0",), "server-no-scaling": ("b net.ipv4.tcp_window_scaling=0",),
          "no-sack": ("a net.ipv4.tcp_sack=0",), "bare": ("a net.ipv4.tcp_sack=0", "a net.ipv4.tcp_timestamps=0", "a net.ipv4.tcp_window_scaling=0"),
          "sack-no-timestamps": ("a net.ipv4.tcp_timestamps=0", "a net.ipv4.tcp_window_scaling=0"),
          "ecn": ("a net.ipv4.tcp_ecn=1",), "ecn-refused": ("a net.ipv4.tcp_ecn=1", "b net.ipv4.tcp_ecn=0"),
          "cookies-always": ("b net.ipv4.tcp_syncookies=2",), "rmem-old": ("a net.ipv4.tcp_rmem=4096 131072 6291456", "b net.ipv4.tcp_rmem=4096 87380 6291456"),
          "rmem-small": ("b net.ipv4.tcp_rmem=4096 16384 32768",), "timestamps-2": ("a net.ipv4.tcp_timestamps=2",),
          "ttl": ("a net.ipv4.ip_default_ttl=10",),
      }.items()],
    *[case(f"handshake-rcvbuf-{size}", f"b: listen L 8080 opts=SO_RCVBUF:{size}\na: connect C {B} from=:40000 opts=SO_RCVBUF:{size}\nb: accept S L\na: getopt C SO_RCVBUF\n"
           "a: send C 500\nb: recv S 500\nb: send S 500\nb: getopt S SO_RCVBUF")
      for size in (0, 1000, 2304, 4096, 8192, 16000, 32768, 65536, 131072, 300000, 1000000, 5000000)],
    *[case(f"handshake-mtu-{mtu}", f"a: ip link set eth0 mtu {mtu}\nb: ip link set eth0 mtu {mtu}\nb: listen L 8080\na: connect C {B} from=:40000\nb: accept S L\na: send C 3000\nb: drain S\nb: send S 200")
      for mtu in (296, 576, 1280, 1450, 9000)],
    *[case(f"handshake-maxseg-{mss}", f"b: listen L 8080\na: connect C {B} from=:40000 opts=TCP_MAXSEG:{mss}\nb: accept S L\nb: send S 2500\na: send C 2500\na: drain C\nb: drain S\na: getopt C TCP_MAXSEG")
      for mss in (88, 536, 1000, 1460)],
    case("handshake-clamp", f"b: listen L 8080\na: connect C {B} from=:40000 opts=TCP_WINDOW_CLAMP:5000\nb: accept S L\nb: send S 100\na: recv C 100\na: send C 10"),
    case("handshake-tos-ttl", f"b: listen L 8080 opts=IP_TOS:16,IP_TTL:9\na: connect C {B} from=:40000 opts=IP_TOS:8,IP_TTL:7\nb: accept S L\nb: send S 100\na: recv C 100\na: send C 10\na: close C\nwait 0.1"),
    case("handshake-defer-accept", f"b: listen L 8080 opts=TCP_DEFER_ACCEPT:2\na: connect C {B} from=:40000\nb: ss\nb: accept S L timeout=0.2\nwait 0.5\na: send C 5\nb: accept S L\nb: recv S 9"),
    case("handshake-defer-accept-silent", f"b: listen L 8080 opts=TCP_DEFER_ACCEPT:1\na: connect C {B} from=:40000\nwait 3.4\nb: ss\nb: accept S L timeout=0.2"),
    case("handshake-bound-any-port", f"b: listen L 8080\na: connect C {B}\nb: accept S L\na: send C 3\na: close C\nb: close S"),
]


def _overflow(backlog: int, clients: int, abort: int, extra: str = "") -> Case:
    starts = "\n".join(f"a: start C{n} {B} from=:{40000 + n}\nwait 0.3" for n in range(clients))  # apart by more than a timer is late
    polls = "\n".join(f"a: poll C{n}" for n in range(clients))
    return case(f"accept-overflow-{backlog}-{clients}-abort{abort}{'-' + extra if extra else ''}",
                f"b: listen L 8080 backlog={backlog}\n{starts}\nb: ss\na: ss\n{polls}\na: send C0 5\nwait 1.5\nb: accept S L\nwait 2\nb: ss\na: ss\nb: accept T L\nb: accept U L\nb: accept V L timeout=0.2",
                f"b net.ipv4.tcp_abort_on_overflow={abort}", *(["b net.ipv4.tcp_syncookies=0"] if extra == "nocookies" else []))


def _overflow_at_ack(abort: int, cookies: int) -> Case:
    """All SYNs arrive before the first final ACK: a's input is shut while they are sent."""
    starts = "\n".join(f"a: start C{n} {B} from=:{40000 + n}\nwait 0.3" for n in range(3))
    return case(f"accept-overflow-at-ack-abort{abort}-cookies{cookies}", f"""
        b: listen L 8080 backlog=0
        a: iptables -A INPUT -p tcp -j DROP
        {starts}
        b: ss
        a: iptables -F
        wait 1.3
        b: ss
        a: ss
        a: poll C0
        a: poll C1
        a: send C1 5
        wait 0.5
        b: accept S L
        wait 3
        b: ss
        a: ss
        a: recv C1 5 timeout=0.1
    """, f"b net.ipv4.tcp_abort_on_overflow={abort}", f"b net.ipv4.tcp_syncookies={cookies}")


QUEUES = [
    *[_overflow(backlog, clients, abort) for backlog, clients, abort in ((0, 2, 0), (1, 4, 0), (1, 4, 1), (2, 6, 0))],
    _overflow(1, 4, 0, "nocookies"),
    *[_overflow_at_ack(abort, cookies) for abort in (0, 1) for cookies in (0, 1)],
    case("listen-twice", "b: listen L 8080 backlog=5\nb: listen L backlog=1\nb: ss\nb: listen L backlog=100000\nb: ss\nb: connect L 10.1.0.2:80\nb: send L 5\nb: recv L 5 timeout=0.1\nb: sockname L\nb: peername L"),
    case("listen-close-reopen", f"b: listen L 8080\na: connect C {B} from=:40000\nb: close L\nb: listen L 8080\na: connect D {B} from=:40001\nb: accept S L\na: recv C 5"),
    case("accept-order", f"b: listen L 8080\na: connect C {B} from=:40003\na: connect D {B} from=:40001\na: connect E {B} from=:40002\nb: accept S L\nb: accept T L\nb: accept U L\nb: accept V L timeout=0.1"),
    case("accept-nonblocking", "b: listen L 8080\nb: accept S L timeout=0\nb: poll L"),
    case("accept-udp", "b: udp U from=:8080\nb: listen U\nb: accept S U timeout=0.1\nb: connect U 10.1.0.2:9\nb: recv U 5 timeout=0.1"),
    case("listen-specific-beats-any", f"b: listen L 8080\nb: listen M 10.1.0.1:8080\nb: close L\nb: listen N 10.1.0.1:8081\na: connect C {B}\nb: accept S M timeout=0.2"),
    case("listen-on-loopback-only", f"b: listen L 127.0.0.1:8080\na: connect C {B} from=:40000"),
]

DATA = [
    opened("delayed-ack", "a: send C 10\nb: recv S 10\nb: send S 10\na: recv C 10\na: send C 10\nwait 0.1\nb: recv S 10\na: send C 10\nwait 0.1\nb: recv S 10\na: send C 10\nwait 0.1"),
    opened("delayed-ack-one-way", "\n".join("a: send C 100\nb: recv S 100\nwait 0.06" for _ in range(10))),
    opened("delayed-ack-idle", "a: send C 10\nb: recv S 10\nb: send S 10\na: recv C 10\nwait 1.5\na: send C 10\nb: recv S 10\nwait 0.2\na: send C 10\nwait 0.2"),
    opened("nagle", "a: send C 10\na: send C 10\na: send C 10\nwait 0.1\nb: drain S\nb: send S 1\na: recv C 1\na: send C 10\na: send C 10\na: send C 10\nwait 0.2\nb: drain S"),
    opened("nodelay", "a: opt C TCP_NODELAY\na: send C 10\na: send C 10\na: send C 10\nwait 0.1\nb: drain S"),
    opened("cork", "a: opt C TCP_CORK\na: send C 10\na: send C 10\nwait 0.3\na: send C 2000\nwait 0.1\na: opt C TCP_CORK 0\nwait 0.1\nb: drain S"),
    opened("msg-more", "a: send C 10 flags=32768\na: send C 10\nwait 0.1\na: send C 10 flags=32768\nwait 0.3\nb: drain S"),
    opened("quickack-off", "b: opt S TCP_QUICKACK 0\na: send C 10\nwait 0.1\na: send C 10\nwait 0.1\nb: opt S TCP_QUICKACK 1\na: send C 10\nwait 0.1"),
    opened("bulk", "a: fill C 100000\nb: drain S\nwait 0.1\nb: drain S\nwait 0.1\nb: drain S"),
    opened("cwnd-10", "a: send C 16000\nwait 0.1\nb: drain S"),
    opened("zero-window", "a: fill C\nb: ss\nwait 2\na: ss\nb: drain S\nwait 0.5\nb: drain S\nwait 0.5\nb: drain S", "b net.ipv4.tcp_rmem=4096 8192 8192", "a net.ipv4.tcp_wmem=4096 16384 16384"),
    case("zero-window-small", f"b: listen L 8080 opts=SO_RCVBUF:4096\na: connect C {B} from=:40000 opts=SO_SNDBUF:8192\nb: accept S L\na: fill C\nwait 2\nb: recv S 1000\nwait 0.3\nb: recv S 1000\nwait 0.3\nb: recv S 1000\nwait 0.3\na: close C\nb: drain S\nwait 0.5\nb: drain S"),
    case("window-steps", f"b: listen L 8080 opts=SO_RCVBUF:20000\na: connect C {B} from=:40000 opts=TCP_NODELAY\nb: accept S L\n" + "\n".join("a: send C 1000" for _ in range(16)) +
         "\nb: recv S 4000\na: send C 1000\nb: recv S 8000\na: send C 1000"),
    case("window-tiny-segments", f"b: listen L 8080 opts=SO_RCVBUF:8192\na: connect C {B} from=:40000 opts=TCP_NODELAY\nb: accept S L\n" + "\n".join("a: send C 10" for _ in range(25)) + "\nb: ss\nb: drain S\na: send C 10"),
    opened("peek-and-parts", "a: send C 10\nb: recv S 4 flags=2\nb: recv S 4\nb: recv S 100\nb: recv S 5 flags=64\nb: recv S 0 timeout=0.1"),
    opened("send-zero", "a: send C 0\nb: recv S 5 timeout=0.1\nb: poll S\na: poll C"),
    opened("waitall", "a: send C 5\nb: recv S 10 flags=256 timeout=0.3"),
    opened("urgent", "a: send C 5 flags=1\nb: poll S\nb: recv S 10\nb: recv S 10 flags=1 timeout=0.1\na: send C 3\nb: recv S 10"),
    opened("keepalive", "a: opt C TCP_KEEPIDLE 1\na: opt C TCP_KEEPINTVL 1\na: opt C TCP_KEEPCNT 2\na: opt C SO_KEEPALIVE\na: ss\nwait 2.3\nb: iptables -A INPUT -p tcp -j DROP\nwait 4.5\na: getopt C SO_ERROR\na: ss"),
    opened("data-lost", "b: iptables -A INPUT -p tcp -j DROP\na: send C 10\nwait 1\na: ss\nwait 1\nb: iptables -F\nwait 2\nb: recv S 10\na: ss"),
    opened("data-lost-retries2", "b: iptables -A INPUT -p tcp -j DROP\na: send C 10\na: recv C 5 timeout=20\na: send C 5\na: ss", "a net.ipv4.tcp_retries2=3"),
    opened("data-lost-user-timeout", "a: opt C TCP_USER_TIMEOUT 2000\nb: iptables -A INPUT -p tcp -j DROP\na: send C 10\na: recv C 5 timeout=20\na: ss"),
    opened("acks-lost", "a: iptables -A INPUT -p tcp -j DROP\na: send C 10\nwait 1\na: iptables -F\nwait 1.5\nb: recv S 100\nb: ss"),
    opened("orphan-retries", "b: iptables -A INPUT -p tcp -j DROP\na: send C 10\na: close C\na: ss\nwait 4\na: ss", "a net.ipv4.tcp_orphan_retries=2"),
    opened("first-of-burst-lost", "b: iptables -A INPUT -p tcp -m statistic --mode nth --every 100 --packet 0 -j DROP\na: send C 14000\nwait 0.5\nb: drain S"),
    opened("tail-of-burst-lost", "b: iptables -A INPUT -p tcp -m statistic --mode nth --every 100 --packet 9 -j DROP\na: send C 14000\nwait 0.8\nb: drain S"),
    opened("two-of-burst-lost", "b: iptables -A INPUT -p tcp -m statistic --mode nth --every 3 --packet 1 -j DROP\na: send C 7000\nwait 1.5\nb: iptables -F\nwait 1.5\nb: drain S"),
    opened("middle-lost-no-sack", "b: iptables -A INPUT -p tcp -m statistic --mode nth --every 100 --packet 2 -j DROP\na: send C 14000\nwait 0.8\nb: drain S", "a net.ipv4.tcp_sack=0"),
    opened("device-down", "a: ip link set eth0 down\na: send C 5\nwait 0.3\na: connect D 10.1.0.1:81 timeout=1\na: ip link set eth0 up\nwait 1.5\nb: recv S 9 timeout=3"),
    opened("address-removed", "a: ip addr del 10.1.0.2/24 dev eth0\na: send C 5\na: send C 5\nwait 0.5\na: ss\na: getopt C SO_ERROR"),
    opened("getsockopts", "a: getopt C SO_SNDBUF\na: getopt C SO_RCVBUF\na: getopt C TCP_MAXSEG\na: getopt C IP_MTU\na: getopt C TCP_NODELAY\na: getopt C TCP_KEEPIDLE\na: getopt C TCP_SYNCNT\n"
           "a: getopt C TCP_QUICKACK\nb: getopt S TCP_QUICKACK\nb: getopt L SO_SNDBUF\nb: getopt L SO_RCVBUF\nb: getopt L SO_ACCEPTCONN\na: getopt C TCP_WINDOW_CLAMP\na: getopt C TCP_DEFER_ACCEPT\na: getopt C TCP_LINGER2\na: getopt C SO_ERROR\na: getopt C IP_TTL\na: getopt C TCP_NOTSENT_LOWAT"),
]


def _buffers() -> Case:
    lines = []
    for kind in ("tcp", "udp"):
        for n, (option, value) in enumerate((o, v) for o in ("SO_RCVBUF", "SO_SNDBUF") for v in (0, 1, 1151, 1152, 1153, 2304, 5000, 212992, 4194304, 5000000, 2**31 - 1)):
            lines += [f"a: {kind} {kind}{n} opts={option}:{value}", f"a: getopt {kind}{n} {option}"]
    return case("buffer-sizes", "\n".join(lines), gap=0)


ADDRESSES = {"same": ("10.1.0.1", "10.1.0.1"), "any-any": ("", ""), "any-one": ("", "10.1.0.1"), "one-any": ("10.1.0.1", ""), "other": ("10.1.0.1", "127.0.0.1")}
OPTS = {"-": "", "A": "SO_REUSEADDR", "P": "SO_REUSEPORT", "AP": "SO_REUSEADDR,SO_REUSEPORT"}


def _bind(kind: str, first: str) -> Case:
    lines, port = [], 9000
    for pair, (old, new) in ADDRESSES.items():
        for one in OPTS.values():
            for two in OPTS.values():
                if first in ("estab", "timewait") and (pair in ("other", "any-any") or "SO_REUSEADDR,SO" in one + two):
                    continue
                n, port = port - 9000, port + 1
                opt1, opt2 = (f" opts={o}" if o else "" for o in (one, two))
                lines.append(f"b: {kind} A{n} from={old}:{port}{opt1}")
                if first == "listen":
                    lines.append(f"b: listen A{n}")
                if first in ("estab", "timewait"):
                    lines += [f"b: connect A{n} 10.1.0.2:7000"]
                if first == "timewait":
                    lines += [f"a: accept S{n} L", f"b: close A{n}", f"a: close S{n}"]
                lines.append(f"b: {kind} B{n} from={new}:{port}{opt2}")
                if kind == "tcp":
                    lines.append(f"b: listen B{n}")
    head = "a: listen L 7000 backlog=200\n" if first in ("estab", "timewait") else ""
    return case(f"bind-{kind}-{first}", head + "\n".join(lines), gap=0.02 if first == "timewait" else 0)


BINDING = [
    _buffers(),
    *[_bind("tcp", first) for first in ("bound", "listen", "estab", "timewait")],
    _bind("udp", "bound"),
    case("bind-errors", "a: tcp A from=10.1.0.9:80\na: tcp B from=:80\na: bind B 10.1.0.2:81\na: tcp C from=127.0.0.5:80\na: tcp D from=224.0.0.1:80\na: tcp E from=10.1.0.255:80\na: udp F from=224.0.0.1:80\na: udp G from=10.1.0.255:80\na: udp H from=255.255.255.255:80\na: tcp I opts=IP_FREEBIND:1\na: tcp J from=10.1.0.2:0\na: bind J 10.1.0.2:0"),
    case("bind-few-ports", f"b: listen L 8080\n" + "\n".join(f"a: connect C{n} {B}\na: sockname C{n}" for n in range(5)) + "\na: tcp X from=10.1.0.2:0\na: sockname X\na: listen Y 0.0.0.0:0\na: tcp Z from=10.1.0.2:0",
         "a net.ipv4.ip_local_port_range=50000 50003", gap=0.002),
    case("bind-address-no-port", f"b: listen L 8080\na: tcp A\na: opt A IP_BIND_ADDRESS_NO_PORT 1\na: bind A 10.1.0.2:0\na: sockname A\na: connect A {B}\na: peername A"),
    case("reuseport-listeners", f"b: listen L1 8080 opts=SO_REUSEPORT\nb: listen L2 8080 opts=SO_REUSEPORT\nb: listen L3 8080\na: connect C {B} from=:40000\nb: close L1\nb: close L2\na: connect D {B} from=:40001"),
]

UDP = [
    case("udp-refused", f"a: udp C from=:40000\na: connect C {B}\na: send C 10\na: send C 10\na: send C 10\na: recv C 10\na: recv C 10 timeout=0.1\na: poll C"),
    case("udp-refused-unconnected", f"a: udp C from=:40000\na: sendto C {B} 10\na: sendto C {B} 10\na: recvfrom C 10 timeout=0.1\na: getopt C SO_ERROR"),
    case("udp-refused-recverr", f"a: udp C from=:40000 opts=IP_RECVERR\na: sendto C {B} 10\na: poll C\na: sendto C {B} 10\na: recvfrom C 10 timeout=0.1"),
    case("udp-echo", f"b: udp S from=:8080\na: udp C from=:40000\na: sendto C {B} 10\nb: recvfrom S 100\nb: sendto S 10.1.0.2:40000 20\na: recvfrom C 5\na: recvfrom C 5 timeout=0.1\na: poll C"),
    case("udp-connected-filters", f"b: udp S from=:8080\nb: udp T from=:8081\na: udp C from=:40000\na: connect C {B}\nb: sendto T 10.1.0.2:40000 3\nb: sendto S 10.1.0.2:40000 4\na: recv C 10\na: recv C 10 timeout=0.1\na: sendto C 10.1.0.1:8081 6\nb: recvfrom T 10"),
    case("udp-sizes", f"b: udp S from=:8080\na: udp C from=:40000\n" + "\n".join(f"a: sendto C {B} {n}\nb: recvfrom S 70000 timeout=0.2" for n in (0, 1, 1472, 1473, 3000, 9000))),
    case("udp-df", f"b: udp S from=:8080\na: udp C from=:40000 opts=IP_MTU_DISCOVER:2\na: sendto C {B} 1472\na: sendto C {B} 1473\na: opt C IP_MTU_DISCOVER 0\na: sendto C {B} 1473\na: opt C IP_MTU_DISCOVER 3\na: sendto C {B} 1473\na: sendto C {B} 3"),
    case("udp-two-sockets", f"b: udp S from=:8080\nb: udp T from=10.1.0.1:8081\na: udp C from=:40000\na: sendto C 10.1.0.1:8081 4\nb: recvfrom T 9\nb: close T\na: sendto C 10.1.0.1:8081 4\na: recvfrom C 9 timeout=0.1"),
    case("udp-rcvbuf-full", f"b: udp S from=:8080 opts=SO_RCVBUF:2304\na: udp C from=:40000\n" + "\n".join(f"a: sendto C {B} 500" for _ in range(9)) + "\nb: ss\n" + "\n".join("b: recvfrom S 999 timeout=0.05" for _ in range(9))),
    case("udp-autobind", f"b: udp S from=:8080\na: udp C\na: sendto C {B} 3\nb: poll S\na: udp D\na: connect D {B}\na: peername D\na: connect D 10.1.0.1:8081\na: peername D"),
    case("udp-shutdown", f"b: udp S from=:8080\na: udp C from=:40000\na: shutdown C rd\na: connect C {B}\na: shutdown C wr\na: send C 4\na: shutdown C rd\na: recv C 4"),
    case("udp-errno", f"a: udp C\na: send C 5\na: connect C 10.1.0.1:0\na: sendto C 10.1.0.1:0 5\na: recv C 5 timeout=0.1\na: peername C"),
    case("udp-loopback-refused", "a: udp C from=127.0.0.1:40000\na: connect C 127.0.0.1:9\na: send C 5\na: recv C 5 timeout=0.2\na: sendto C 10.1.0.1:8080 5"),
]

CASES = [*CLOSING, *CONNECTING, *HANDSHAKES, *QUEUES, *DATA, *BINDING, *UDP]
