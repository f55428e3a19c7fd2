"""Text for people: tables as kubectl aligns them, "did you mean", YAML, times.

No library here: a table is twenty lines, and `kubenet get` must not wait for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MIN_WIDTH, PADDING = 6, 3  # kubectl's tabwriter: GetNewTabWriter()


def table(rows: Sequence[Sequence[Any]]) -> str:
    """The rows with their columns aligned, as kubectl does: cells at least 6 wide, 3 apart, the last one as it is."""
    texts = [[cell_text(cell) for cell in row] for row in rows]
    if not texts:
        return ""
    widths = [max(MIN_WIDTH, *(len(row[i]) + PADDING for row in texts)) for i in range(len(texts[0]) - 1)]
    return "".join("".join(c.ljust(w) for c, w in zip(row, widths, strict=False)) + row[-1] + "\n" for row in texts)


def cell_text(cell: Any) -> str:
    """A cell as text, on one line. kubectl cuts at the first line break and marks it with `...`."""
    text = "" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell)
    first, cut, _ = text.partition("\n")
    return first + ("..." if cut else "")


def did_you_mean(word: str, known: list[str]) -> str:
    """" Did you mean X?" with the nearest of the known words, or nothing."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def json_text(obj: Any) -> str:
    """JSON as kubectl prints it."""
    import json

    return json.dumps(obj, indent=4, sort_keys=True, ensure_ascii=False)


def yaml_text(obj: Any) -> str:
    """YAML as kubectl prints it: keys sorted, lists not indented, long texts as blocks, double quotes where text looks like data."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    text_tag = "tag:yaml.org,2002:str"

    def represent(dumper: Any, value: str) -> Any:
        looks_like_data = dumper.resolve(yaml.ScalarNode, value, (True, False)) != text_tag or value.lower() in ("y", "n")
        return dumper.represent_scalar(text_tag, value, style="|" if "\n" in value else '"' if looks_like_data else None)

    Dumper.add_representer(str, represent)
    text: str = yaml.dump(obj, Dumper=Dumper, default_flow_style=False, sort_keys=True, width=1 << 20, allow_unicode=True)
    return text


def seconds(ns: int) -> str:
    """Virtual time as the command line prints it: t=2.110000s."""
    from kubenet.units import format_ns

    return "t=" + format_ns(ns)
