"""Questions about the state of a run: `listener('web-0', 8080).recv_q > 10 and not ready('web-1')`.

    question = parse("count(socks('web-0', state='ESTAB')) == 6")      UsageError names the column
    question.value(Facts(cluster))                                    True; looking changes nothing

syntax.py reads the text, evaluate.py computes, facts.py is all that can be seen. `kubenet until` and checks of labs use it. The
language has no assignments, no attributes but those of facts.py, no way to call anything else, and no loop but a walk over a list,
so a question from a stranger can do nothing but be answered.
"""

from __future__ import annotations

from kubenet.query.expr.evaluate import Question, parse
from kubenet.query.expr.facts import Facts

__all__ = ["Facts", "Question", "parse"]
