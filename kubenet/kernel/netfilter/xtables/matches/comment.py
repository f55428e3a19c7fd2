"""-m comment --comment "text": always true. Most of what makes kube-proxy's rules readable.

Source: Linux comment_mt() (xt_comment.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.names import save_string
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, text_of
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match


@xt_match("comment")
@dataclass(frozen=True, slots=True)
class CommentMatch(Match):
    """Words for people. Linux: comment_mt()."""

    comment: str
    OPTS = options(Opt("comment", text_of(255), mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> CommentMatch:
        return cls(got.get("comment", ""))

    def save(self) -> str:
        return " --comment" + save_string(self.comment)

    def listing(self, numeric: bool) -> str:
        return f" /* {self.comment} */"

    def compile(self, key: Key) -> Predicate | None:
        return None
