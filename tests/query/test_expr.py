"""The language of questions: its grammar against Python's, its errors, what it sees, and that nothing can be done with it but ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubenet.cluster.cluster import Cluster
from kubenet.errors import KubenetError, NotFoundError, UsageError
from kubenet.query.expr import Facts, parse
from kubenet.query.expr.records import Absent

PODS = Path(__file__).resolve().parents[2] / "manifests" / "pods"
SEC = 1_000_000_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.from_manifests(PODS) as found:
        result = found.exec("client", ["curl", "-s", "http://10.96.0.1/hostname"])
        assert result.code == 0
        yield found


@pytest.fixture
def ask(cluster: Cluster) -> Any:
    facts = Facts(cluster)
    return lambda text: parse(text).value(facts)


# ---- the language

LITERALS = st.sampled_from(["0", "1", "2", "3", "7", "1.5", "0.25", "True", "False", "None", "'a'", "'b'", "[1, 2]", "['a']"])


def _combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["+", "-", "*", "//", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"])
    return st.one_of(
        st.tuples(inner, binary, inner).map(" ".join), inner.map("({})".format), inner.map("not {}".format), inner.map("- {}".format),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"), inner.map("count([{}])".format),
        st.tuples(inner, inner).map("max([{0[0]}, {0[1]}])".format), inner.map("any(x == 1 for x in [{}, 1] if x)".format),
    )


def _ours(text: str) -> Any:
    """The value, or the class of failure: what Python would not compute is a UsageError here."""
    try:
        return parse(text).value(Facts(None))  # type: ignore[arg-type]
    except UsageError:
        return "refused"


def _python(text: str) -> Any:
    try:
        return eval(text, {"__builtins__": {}, "count": len, "max": max, "any": any})  # noqa: S307  # made of LITERALS only
    except (TypeError, ArithmeticError, ValueError, SyntaxError):
        return "refused"


@given(st.recursive(LITERALS, _combine, max_leaves=8))
@settings(max_examples=400, deadline=None)
def test_it_computes_what_python_computes(text: str) -> None:
    """Precedence, chains and truth values are Python's; only text and list arithmetic beyond `'a' + 'b'` is refused."""
    ours, python = _ours(text), _python(text)
    if ours == "refused":
        return  # `[1] * 2`, `True + ...` of lists and the like
    assert python != "refused", text
    assert ours == python and isinstance(ours, type(python)), text


def test_what_is_refused_is_what_no_question_needs() -> None:
    """The test above would pass if everything were refused."""
    for text in ("1 + 2 * 3 - 4 // 3 % 2", "not 1 == 2 and 3 or 4", "1 < 2 < 3 != 4", "'a' in ['a'] and 'b' not in ['a']", "- - 2",
                 "None is None", "[3][0] is not None", "10 % 3", "max([1, 2]) == 2", "any(x == 1 for x in [0, 1] if x)", "'a' + 'b' == 'ab'"):
        assert _ours(text) == eval(text), text  # noqa: S307


@pytest.mark.parametrize(("text", "value"), [
    ("50ms", 50_000_000), ("1.5s", 1_500_000_000), ("2m", 120 * SEC), ("5%", 0.05), ("approx(100, 104, 5%)", True),
    ("approx(100, 106, 5%)", False), ("between(2, 1, 3)", True), ("10 %3", 1), ("10%(3)", 1), ("{'a', 'b'} <= {'b', 'a', 'c'}", True),
    ("count({1, 1})", 1), ("max(1, 2)", 2), ("[1, 2][-1]", 2), ("sum(x * 2 for x in [1, 2])", 6), ("all([])", True),
])
def test_more_than_python_has(text: str, value: Any) -> None:
    assert _ours(text) == value


@pytest.mark.parametrize(("text", "column", "what"), [
    ("", 0, "empty"), ("1 +", 4, "missing at the end"), ("ready('a'", 10, "')' is missing"), ("a = 1", 3, "'=' does not fit"),
    ("1 ; 2", 3, "no meaning"), ("'x", 1, "closing quote"), ("foo()", 1, "no foo()"), ("1 < 'a'", 3, "cannot be answered"),
    ("1 / 0", 3, "cannot be answered"), ("12abc", 1, "no number"), ("x.y", 1, "means nothing"), ("count(1)", 1, "cannot be counted"),
    ("[1 for x in [1]]", 4, "']' is missing"), ("'a' * 9", 5, "cannot be answered"), ("now.real", 5, "cannot be answered"),
    ("now()", 1, "no now()"), ("any(x for x in {1})", 7, "cannot be answered"), ("(1)(2)", 4, "does not fit"),
    ("ready(name='a', 'b')", 17, "come first"), ("sock('a', port=1, port=2)", 19, "twice"),
])
def test_mistakes_name_their_column(text: str, column: int, what: str, cluster: Cluster) -> None:
    with pytest.raises(UsageError) as error:
        parse(text).value(Facts(cluster))
    assert what in error.value.what
    assert error.value.at.startswith(f"column {column}:" if column else "")


@pytest.mark.parametrize("text", [
    "__import__('os')", "ready.__class__", "''.__class__", "[].append(1)", "now.__class__", "pod('web-0')._thing", "lambda: 1",
    "svc('web').cluster", "listener('web-0', 8080)._thing", "svc('web')['spec']", "x := 1", "f'{1}'", "9 ** 9", "cluster", "facts", "self",
])
def test_there_is_no_way_out(text: str, cluster: Cluster) -> None:
    with pytest.raises(UsageError):
        parse(text).value(Facts(cluster))


@pytest.mark.parametrize("text", ["(" * 500, "-" * 1900 + "1", "not " * 400 + "1", "[" * 900, "1" + "+1" * 900, "f(" * 400, "1" * 1999])
def test_long_and_deep_texts_end(text: str) -> None:
    """In a value or in a refusal, never in Python's own recursion limit."""
    _ours(text)


def test_walks_within_walks_have_a_budget() -> None:
    ten = "[1,2,3,4,5,6,7,8,9,0]"
    text = "1"
    for k in range(6):
        text = f"count(x{k} for x{k} in {ten} if {text})"
    with pytest.raises(UsageError, match="too long"):
        parse(text).value(Facts(None))  # type: ignore[arg-type]


# ---- what it sees

def test_sockets_as_ss_shows_them(cluster: Cluster, ask: Any) -> None:
    """A connection with five bytes that nobody reads, and a listener."""
    server = cluster.start_exec("client", ["nc", "-l", "-p", "7000"])
    client = cluster.start_exec("client", ["nc", "10.48.2.7", "8080"], stdin_open=True)
    cluster.run(SEC)
    state, recv_q, limit, local = cluster.exec("client", ["ss", "-Hltn"]).out.split()[:4]
    assert (state, local) == ("LISTEN", "0.0.0.0:7000")
    assert ask("listener('client', 7000).recv_q") == int(recv_q) and ask("listener('client', 7000).limit") == int(limit)
    assert ask("listener('client', 9) is None") and ask("listener('web-0', 8080).qlen") == 0
    state, _, _, local, peer = cluster.exec("client", ["ss", "-Htn"]).out.split()[:5]
    assert (state, peer) == ("ESTAB", "10.48.2.7:8080")
    assert ask("sock('client', state='ESTAB').local") == local
    for wanted in ("peer='web-0:8080'", "peer=8080", "peer=':8080'", "state='ESTAB', port=0", "peer='10.48.2.7'"):
        assert ask(f"count(socks('client', {wanted}))") == 1, wanted
    assert ask("count(socks('client', peer='web-1:8080'))") == 0
    cwnd = ask("sock('client', state='ESTAB').cwnd")
    assert f" cwnd:{cwnd} " in cluster.exec("client", ["ss", "-Htni"]).out
    client.kill(9)
    server.kill(9)
    cluster.run(SEC)


def test_conntrack_and_rules(cluster: Cluster, ask: Any) -> None:
    assert ask("ct('node-1', orig_dst='10.96.0.1:80').orig.src").startswith("10.48.1.5:")
    assert ask("ct('node-1', orig_dst='web').reply.src") in ("10.48.2.7:8080", "10.48.1.6:8080")
    assert ask("ct('node-1', orig_dst='10.96.0.1:80').assured")
    line = next(x for x in cluster.exec("node-1", ["conntrack", "-L", "-d", "10.96.0.1"]).out.splitlines() if "dport=80 " in x)
    assert ask("ct('node-1', orig_dst='10.96.0.1:80').state") == line.split()[3]
    assert ask("ct('node-1', orig_dst='10.96.0.1:80').left") // SEC == int(line.split()[2])
    assert ask("ct_count('node-1')") == int(cluster.exec("node-1", ["conntrack", "-C"]).out)
    assert ask("ct('node-1', orig_dst='10.96.0.1:81') is None")
    listing = cluster.exec("node-1", ["iptables", "-t", "nat", "-nvxL", "PREROUTING"]).out.splitlines()[2].split()
    assert ask("rule('node-1', 'nat', 'PREROUTING', 1).pkts") == int(listing[0]) > 0
    assert ask("rule('node-1', 'nat', 'PREROUTING', 1).target") == listing[2] == "KUBE-SERVICES"
    assert ask("rule('node-1', 'nat', 'PREROUTING', 9) is None") and ask("chain('node-1', 'nat', 'NONE') is None")
    assert ask("count(chain('node-1', 'nat', 'PREROUTING').rules) == chain('node-1', 'nat', 'PREROUTING').count")


def test_kubernetes_and_counters(ask: Any, cluster: Cluster) -> None:
    assert ask("ready('web-0') and not ready('web-7')")
    assert ask("svc('web').cluster_ip") == "10.96.0.1"
    assert ask("count(e for e in endpoints('web') if e.ready)") == 2
    assert ask("pod('client').node") == "node-1" and ask("node('node-1').ready")
    assert ask("nstat('client', 'TcpActiveOpens')") == 0
    assert ask("nstat('client', 'TcpActiveOpens').total") >= 1
    assert ask("dev('client', 'eth0').tx_packets") > 4


def test_counters_count_from_the_first_look(cluster: Cluster) -> None:
    facts, question = Facts(cluster), parse("nstat('client', 'TcpActiveOpens')")
    assert question.value(facts) == 0
    cluster.exec("client", ["curl", "-s", "http://10.96.0.1/"])
    assert question.value(facts) == 1


def test_what_is_not_there(cluster: Cluster, ask: Any) -> None:
    facts = Facts(cluster)
    with pytest.raises(Absent):
        ask("listener('web-0', 9).recv_q > 1")
    assert parse("listener('web-0', 9).recv_q > 1").look(facts) == (False, None)
    assert ask("listener('web-0', 9).recv_q > 1 or ready('web-0')")
    with pytest.raises(NotFoundError, match="Did you mean web-0"):
        ask("socks('wbe-0')")
    with pytest.raises(UsageError, match="Did you mean recv_q"):
        ask("listener('web-0', 8080).recvq")
    with pytest.raises(UsageError, match="Did you mean TcpExtListenOverflows"):
        ask("nstat('web-0', 'TcpExtListenOverflow')")
    with pytest.raises(UsageError, match="no state"):
        ask("socks('web-0', state='ESTABLISHED')")


def test_the_wire_as_tcpdump_shows_it(cluster: Cluster) -> None:
    """One request: what tcpdump prints of the pod's device, and what questions know of it."""
    facts = Facts(cluster)
    ask = lambda text: parse(text).value(facts)  # noqa: E731
    assert ask("wire('client/eth0').packets() == [] and wire('client').first is None")
    printed: list[bytes] = []
    dump = cluster.start_exec("client", ["tcpdump", "-nn", "-i", "eth0", "tcp"], on_output=lambda fd, data: printed.append(data))
    cluster.run(SEC)
    cluster.exec("client", ["curl", "-s", "http://10.96.0.1/"])
    cluster.run(SEC)
    dump.kill(2)
    cluster.run(SEC)
    lines = [line.split(" IP ", 1) for line in b"".join(printed).decode().splitlines() if " IP " in line]
    ends = [rest.split(": ", 1)[0].split(" > ") for _, rest in lines]
    assert len(lines) >= 10 and ask("count(wire('client/eth0').packets(proto='tcp'))") == len(lines)
    dotted = ask("wire('client/eth0').packets(flags='S')[0].src").replace(":", ".")
    assert [dotted, "10.96.0.1.80"] == next(end for end, (_, rest) in zip(ends, lines, strict=True) if "Flags [S]" in rest)
    assert ask("count(wire('client/eth0').packets(src='10.96.0.1:80'))") == sum(src == "10.96.0.1.80" for src, _ in ends)
    assert ask("count(wire('client/eth0').packets(flags='S.', out=False))") == sum("Flags [S.]" in rest for _, rest in lines) == 1
    assert ask("wire('client').last.t >= wire('client').first.t and count(wire('client').gaps_ms) == count(wire('client').packets()) - 1")
    stamps = [float(time.split(":")[2]) for time, _ in lines]
    assert ask("wire('client/eth0').packets(proto='tcp').gaps_ms")[0] == pytest.approx(1000 * (stamps[1] - stamps[0]), abs=0.0011)
    facts.close()


def test_hooks_see_both_sides_of_a_translation(cluster: Cluster) -> None:
    """DNAT happens in PREROUTING: raw is asked before, POSTROUTING after. The answer is turned back by conntrack, behind raw."""
    devs = {dev.name: dev.taps for dev in cluster.container("node-1").net.devs.values()}
    hooks = [list(run) for run in cluster.container("node-1").net.nf.run[2]]
    facts = Facts(cluster)
    ask = lambda text: parse(text).value(facts)  # noqa: E731
    before, after = "at('node-1', 'PREROUTING', 'raw')", "at('node-1', 'POSTROUTING', 'mangle')"
    assert not ask(f"{before}.saw() or {after}.saw() or at('node-1', 'POSTROUTING', 'nat').saw() or wire('node-1/eth0').packets()")
    for _ in range(8):
        cluster.exec("client", ["curl", "-s", "http://10.96.0.1/"])
    assert ask(f"{before}.saw(dst='10.96.0.1:80', flags='S') and not {after}.saw(dst='10.96.0.1')")
    assert ask(f"{after}.saw(dst='web-0:8080', proto='tcp') and not {before}.saw(dst='10.48.2.7:8080')")
    assert ask(f"{before}.count(flags='S') == 8 and {after}.count(flags='S') == 8")
    assert ask("count(wire('node-1/eth0').packets(flags='S', dst='10.48.2.7:8080')) == at('node-1', 'POSTROUTING', 'nat').count("
               "flags='S', dst='10.48.2.7:8080')")
    facts.close()
    assert {dev.name: dev.taps for dev in cluster.container("node-1").net.devs.values()} == devs
    assert [list(run) for run in cluster.container("node-1").net.nf.run[2]] == hooks


@pytest.mark.parametrize(("text", "what"), [
    ("wire('client/eth7')", "no device eth7"), ("wire('client').packet()", "no function packet"), ("wire(3)", "device is a text"),
    ("wire('client').packets", "is a function"), ("at('node-1', 'INPUT', 'raw')", "raw does not look at INPUT"),
    ("at('node-1', 'OUTPUT', 'row')", "no table row"), ("wire('client').packets(colour='red')", "in a way it does not know"),
    ("ready('web-0').saw()", "no function saw"), ("time_of('all-in')", "no check all-in was passed"),
])
def test_mistakes_about_what_came_by(cluster: Cluster, text: str, what: str) -> None:
    facts = Facts(cluster)
    with pytest.raises(KubenetError, match=what):
        parse(text).value(facts)
    facts.close()


def test_programs_and_times(cluster: Cluster) -> None:
    facts = Facts(cluster, passed={"all-in": 5 * SEC})
    ask = lambda text: parse(text).value(facts)  # noqa: E731
    assert ask("time_of('all-in') == 5s and approx(time_of('all-in'), 5.1s, 5%)")
    cluster.exec("client", ["curl", "-s", "http://10.48.2.7:8080/"])
    assert ask("{'socket', 'bind', 'listen', 'accept', 'recv'} <= app('web-0').syscalls and not {'connect'} <= app('web-0').syscalls")
    assert ask("app('web-0').bytes_in > 0 and app('web-0').bytes_out > app('web-0').bytes_in")


PIECES = st.sampled_from([
    "wire('client')", "wire('node-1/eth0')", "at('node-1', 'OUTPUT', 'nat')", ".packets(", ".saw(", ".count(", ".first", "flags='S'",
    "socks('client')", "sock('client')", "listener('web-0', 8080)", "ct('node-1')", "cts('node-1')", "ct_count('node-1')", "ready('web-0')",
    "pod('web-0')", "svc('web')", "endpoints('web')", "chain('node-1', 'nat', 'POSTROUTING')", "rule('node-1', 'filter', 'FORWARD', 1)",
    "nstat('web-0', 'TcpInSegs')", "dev('node-1', 'eth0')", "app('web-0')", ".state", ".recv_q", ".rules", ".left", ".reply.src", ".pkts",
    "[0]", "(", ")", "[", "]", " and ", " or ", " not ", " in ", " == ", " > ", "+", "%", "1", "2s", "5%", "'ESTAB'", "count(", " for x in ",
    "x", ",", ".", "now", "max(", "None", "state=", "\n", "é", "\x00",
])


@given(st.one_of(st.lists(PIECES, max_size=10).map("".join), st.text(max_size=40)))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_answered_or_refused_and_nothing_changes(cluster: Cluster, text: str) -> None:
    before = (cluster.digest(), cluster.loop.now, cluster.loop.step, cluster.loop.pending())
    facts = Facts(cluster)
    try:
        question = parse(text)
        repr(question.value(facts))
        question.look(facts)
    except KubenetError as error:
        assert error.lines()
    finally:
        facts.close()
    assert (cluster.digest(), cluster.loop.now, cluster.loop.step, cluster.loop.pending()) == before


def test_looking_at_everything_changes_no_run() -> None:
    """Two clusters, one looked at after each 10 ms: the same digest at the end."""
    questions = [parse(text) for text in (
        "count(socks('client'))", "ct_count('node-1')", "chain('node-2', 'nat', 'KUBE-SERVICES').count",
        "count(x.timer for x in socks('web-0'))", "max(x.left for x in cts('node-1'))", "nstat('client', 'TcpOutSegs')", "app('web-0').log",
        "any(s.cwnd > 10 or s.rtt > 0 for s in socks('client'))", "count(endpoints('web'))", "dev('node-1', 'eth0').tx_bytes",
        "count(wire('node-2/eth0').packets()) + wire('client').packets(flags='S').first.t", "at('node-1', 'PREROUTING', 'nat').saw(flags='S')")]

    def play(look: bool) -> str:
        with Cluster.from_manifests(PODS) as cluster:
            facts = Facts(cluster)
            cluster.start_exec("client", ["curl", "-s", "http://10.96.0.1/"])
            for _ in range(30):
                cluster.run(10_000_000)
                for question in questions if look else ():
                    question.look(facts)
            cluster.run(200 * SEC)
            return cluster.digest()

    assert play(True) == play(False)
