"""-m limit: a token bucket. Packets beyond the rate do not match.

Credits are counted as the kernel does, in 32 per millisecond (HZ=1000), and start full whenever the table is replaced.

Source: Linux limit_mt(), limit_mt_check() (xt_limit.c); iptables libxt_limit.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff
from kubenet.units import MSEC

SCALE = 10000
HZ = 1000
CREDITS_PER_JIFFY = 32  # POW2_BELOW32(0xFFFFFFFF / (HZ * 60 * 60 * 24))
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
PRINTED = (("day", SCALE * 86400), ("hour", SCALE * 3600), ("min", SCALE * 60), ("sec", SCALE))


def read_rate(text: str, ext: str, opt: str) -> int:
    """Reads 5/min, 10/second, 3: the time between two packets, in 1/10000 s. iptables: parse_rate()."""
    amount, slash, unit = text.partition("/")
    mult = 1
    if slash:
        mult = next((seconds for name, seconds in UNITS.items() if unit and name.startswith(unit.lower())), 0)
    count = int(amount) if amount.isdigit() else 0
    if not mult or not count:
        raise XtablesError(f"bad rate \"{text}\"'")
    if count // mult > SCALE:
        raise XtablesError(f'Rate too fast "{text}"')
    return SCALE * mult // count


def rate_text(period: int) -> str:
    """The period as people wrote it: 5/min. iptables: print_rate()."""
    i = len(PRINTED) - 1
    while i > 0 and (period > PRINTED[i][1] or PRINTED[i][1] // period < PRINTED[i][1] % period):
        i -= 1
    best = PRINTED[i]
    return f"{best[1] // period}/{best[0]}"


def user2credits(user: int) -> int:
    """Tenths of milliseconds as credits. Linux: user2credits()."""
    if user > 0xFFFFFFFF // (HZ * CREDITS_PER_JIFFY):
        return (user // SCALE) * HZ * CREDITS_PER_JIFFY
    return (user * HZ * CREDITS_PER_JIFFY) // SCALE


@xt_match("limit")
@dataclass(frozen=True, slots=True)
class LimitMatch(Match):
    """A credit is left, and now spent. Linux: limit_mt()."""

    period: int
    burst: int
    PURE = False
    OPTS = options(Opt("limit", read_rate), Opt("limit-burst", uint(0, 10000)))

    @classmethod
    def parse(cls, got: Got, head: Header) -> LimitMatch:
        return cls(got.get("limit", SCALE * 3600 // 3), got.get("limit-burst", 5))

    def save(self) -> str:
        return f" --limit {rate_text(self.period)}" + (f" --limit-burst {self.burst}" if self.burst != 5 else "")

    def listing(self, numeric: bool) -> str:
        return f" limit: avg {rate_text(self.period)} burst {self.burst}"

    def compile(self, key: Key) -> Predicate:
        cap, cost = user2credits(self.period * self.burst), user2credits(self.period)

        def spend(skb: SkBuff, ctx: Ctx) -> bool:
            now = ctx.net.loop.now // MSEC
            state = ctx.state.get(key)
            if state is None:
                state = ctx.state[key] = [now, cap]
            credit = min(cap, state[1] + (now - state[0]) * CREDITS_PER_JIFFY)
            state[0] = now
            if credit >= cost:
                state[1] = credit - cost
                return True
            state[1] = credit
            return False

        return spend
