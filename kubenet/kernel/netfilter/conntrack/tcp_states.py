"""What a TCP segment makes of a tracked connection's state, as a table.

One row per state, one column per kind of segment, once for each direction. A cell is the next state, `ignore` (the
entry may be out of step with the two ends: let the segment through and learn from the answer), or `-` (INVALID).
Tracking stands in the middle and sees each segment before its receiver does, so its states are not those of either end:

    SYN_SENT     a SYN was seen                    CLOSE_WAIT   the ACK of the first FIN was seen
    SYN_RECV     SYN and SYN-ACK                   LAST_ACK     FINs of both sides
    ESTABLISHED  and the ACK                       TIME_WAIT    and the last ACK
    FIN_WAIT     a FIN of either side              CLOSE        a RST
    SYN_SENT2    a SYN from both sides (simultaneous open); `conntrack` prints it as SYN_SENT2

Sources: RFC 9293 3.3.2; Linux nf_conntrack_proto_tcp.c tcp_conntracks[][][].
"""

from __future__ import annotations

(NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE, SYN_SENT2) = range(10)
INVALID, IGNORE = 10, 11

STATE_NAMES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT",
               "CLOSE", "SYN_SENT2")

# Kinds of segment. Linux: enum tcp_bit_set
SYN_SET, SYNACK_SET, FIN_SET, ACK_SET, RST_SET, NONE_SET = range(6)
KIND_NAMES = ("SYN", "SYN-ACK", "FIN", "ACK", "RST", "other")

# Seconds each state may stay silent: the sysctl's name
TIMEOUT_NAMES = tuple("nf_conntrack_tcp_timeout_" + name for name in (
    "syn_sent", "syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close",
    "syn_sent"))

_FROM_ORIGINAL = """
             SYN        SYN-ACK   FIN        ACK          RST    other
NONE         SYN_SENT   -         -          ESTABLISHED  -      -
SYN_SENT     SYN_SENT   -         -          -            CLOSE  -
SYN_RECV     ignore     SYN_RECV  FIN_WAIT   ESTABLISHED  CLOSE  -
ESTABLISHED  ignore     -         FIN_WAIT   ESTABLISHED  CLOSE  -
FIN_WAIT     ignore     -         LAST_ACK   CLOSE_WAIT   CLOSE  -
CLOSE_WAIT   ignore     -         LAST_ACK   CLOSE_WAIT   CLOSE  -
LAST_ACK     ignore     -         LAST_ACK   TIME_WAIT    CLOSE  -
TIME_WAIT    SYN_SENT   -         TIME_WAIT  TIME_WAIT    CLOSE  -
CLOSE        SYN_SENT   -         CLOSE      CLOSE        CLOSE  -
SYN_SENT2    SYN_SENT2  SYN_RECV  -          -            CLOSE  -
"""

_FROM_REPLY = """
             SYN        SYN-ACK   FIN        ACK          RST    other
NONE         -          -         -          -            -      -
SYN_SENT     SYN_SENT2  SYN_RECV  -          ignore       CLOSE  -
SYN_RECV     -          ignore    FIN_WAIT   SYN_RECV     CLOSE  -
ESTABLISHED  -          ignore    FIN_WAIT   ESTABLISHED  CLOSE  -
FIN_WAIT     -          ignore    LAST_ACK   CLOSE_WAIT   CLOSE  -
CLOSE_WAIT   -          ignore    LAST_ACK   CLOSE_WAIT   CLOSE  -
LAST_ACK     -          ignore    LAST_ACK   TIME_WAIT    CLOSE  -
TIME_WAIT    SYN_SENT   ignore    TIME_WAIT  TIME_WAIT    CLOSE  -
CLOSE        -          ignore    CLOSE      CLOSE        CLOSE  -
SYN_SENT2    SYN_SENT2  SYN_RECV  -          ignore       CLOSE  -
"""

_CELLS = {name: state for state, name in enumerate(STATE_NAMES)} | {"ignore": IGNORE, "-": INVALID}


def _read(text: str) -> tuple[tuple[int, ...], ...]:
    """The table as [kind][state]."""
    rows = {words[0]: words[1:] for words in map(str.split, text.splitlines()[2:])}
    return tuple(tuple(_CELLS[rows[state][kind]] for state in STATE_NAMES) for kind in range(6))


# TCP_CONNTRACKS[direction][kind][state] -> state, IGNORE or INVALID
TCP_CONNTRACKS = (_read(_FROM_ORIGINAL), _read(_FROM_REPLY))


def render_states(state: str = "") -> str:
    """Every transition in words, one a line; of one state if it is named. For `kubenet explain` and the
    documentation."""
    lines = []
    for old, name in enumerate(STATE_NAMES):
        if state and name != state:
            continue
        for direction, who in enumerate(("client", "server")):
            for kind, kind_name in enumerate(KIND_NAMES):
                new = TCP_CONNTRACKS[direction][kind][old]
                if new == INVALID:
                    continue
                then = "let through, no change" if new == IGNORE else STATE_NAMES[new]
                lines.append(f"{name:<11}  {kind_name:<7} from the {who}  {then}")
    return "\n".join(lines) + "\n"
