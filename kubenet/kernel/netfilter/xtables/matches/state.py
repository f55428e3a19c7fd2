"""-m state --state NEW,...: the older spelling of -m conntrack --ctstate.

Source: iptables libxt_conntrack.c (state is its alias); Linux conntrack_mt() (xt_conntrack.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.matches.conntrack import DNAT, SNAT, STATES, state_test, state_text
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match


def read_states(text: str, ext: str, opt: str) -> int:
    """Reads the five states; SNAT and DNAT are conntrack's alone."""
    value = 0
    for word in text.split(","):
        bit = STATES.get(word.upper(), 0)
        if not bit or bit in (SNAT, DNAT):
            raise XtablesError(f'Bad state "{word}"')
        value |= bit
    return value


@xt_match("state")
@dataclass(frozen=True, slots=True)
class StateMatch(Match):
    """The packet's state is one of these. Linux: conntrack_mt()."""

    states: int
    inv: bool
    CONNTRACK = True
    OPTS = options(Opt("state", read_states, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> StateMatch:
        return cls(got.get("state", 0), got.inv("state"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --state {state_text(self.states)}"

    def listing(self, numeric: bool) -> str:
        return f"{' !' if self.inv else ''} state {state_text(self.states)}"

    def compile(self, key: Key) -> Predicate:
        return state_test(self.states, self.inv)
