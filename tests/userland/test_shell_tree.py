"""The shell's trees against those of an independent grammar, tree-sitter-bash: as many commands of each kind, in the same texts.

dash (test_shell_dash.py) is the judge of what is a command, but `dash -n` shows no tree. KNOWN lists the texts that tree-sitter-bash
refuses or accepts against dash; it is an editor's grammar of bash, so some of them are bash's (`select`, arrays, `|&`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from kubenet.userland import shell_parse as ast
from kubenet.userland.shell_parse import ShellSyntaxError, parse
from tests.userland.test_shell import SCRIPTS
from tests.userland.test_shell_dash import RUNS, TEXTS

tree_sitter = pytest.importorskip("tree_sitter")
tree_sitter_bash = pytest.importorskip("tree_sitter_bash")

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))
KNOWN = [
    "fi", "do", "then", "for i in; do a; done", "for i\nin a; do b; done", "for 1 in a; do b; done", "case x in a) b esac",
    "cat <<A <<B\n1\nA\n2\nB\n", "cat <<A; cat <<B\n1\nA\n2\nB\n", "f() echo x", "function f { a; }", "{ }", "a ;; b",
    "if true; then fi", "if a; then b; else fi", "select x in a; do b; done", "a=(1 2)", "echo $% $ a$", "a |& b",
]
KINDS = {"if_statement": "if", "while_statement": "loop", "for_statement": "for", "case_statement": "case", "subshell": "subshell",
         "compound_statement": "group", "function_definition": "function", "command": "command", "test_command": "command",
         "declaration_command": "command", "unset_command": "command"}
TEXTS_OF_ALL = list(dict.fromkeys([*TEXTS, *RUNS, *(script for script, _, _ in SCRIPTS)]))


def ours(node: Any, count: Counter[str]) -> Counter[str]:
    """Commands by kind; what stands in $(...) is text until it runs."""
    if isinstance(node, ast.Group):
        count["subshell" if node.subshell else "group"] += 1
    elif isinstance(node, ast.Simple):
        count["command"] += bool(node.words)
    else:
        kind = {ast.If: "if", ast.Loop: "loop", ast.For: "for", ast.Case: "case", ast.Function: "function"}.get(type(node))
        count.update([kind] if kind else [])
    if is_dataclass(node):
        for item in fields(node):
            ours(getattr(node, item.name), count)
    elif isinstance(node, list | tuple):
        for item in node:
            ours(item, count)
    return count


def theirs(node: Any, count: Counter[str]) -> Counter[str]:
    """The same of tree-sitter's tree."""
    if node.is_named and node.type in KINDS:
        count[KINDS[node.type]] += 1
    for child in node.children:
        if child.type != "command_substitution":
            theirs(child, count)
    return count


@pytest.mark.parametrize("text", TEXTS_OF_ALL)
def test_the_same_commands(text: str) -> None:
    root = PARSER.parse(text.encode()).root_node
    try:
        tree = parse(text)
    except ShellSyntaxError:
        tree = None
    if text in KNOWN:
        assert root.has_error == (tree is not None), "no longer a difference: take it out of KNOWN"
        return
    assert root.has_error == (tree is None)
    if tree is not None:
        assert +ours(tree, Counter()) == +theirs(root, Counter())
