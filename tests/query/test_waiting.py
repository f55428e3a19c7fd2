"""What `wait --for` means. Expectations: kubectl pkg/cmd/wait (condition.go, json.go, delete.go, create.go) and `kubectl wait --help`."""

from __future__ import annotations

from typing import Any

import pytest

from kubenet.errors import UsageError
from kubenet.query.waiting import Wish

POD: dict[str, Any] = {
    "metadata": {"name": "a", "generation": 2},
    "status": {"phase": "Running", "n": 3, "yes": True, "conditions": [{"type": "Ready", "status": "True"}], "list": [1, 2]},
}


@pytest.mark.parametrize(("wish", "holds"), [
    ("condition=Ready", True), ("condition=ready", True), ("condition=Ready=true", True), ("condition=Ready=False", False),
    ("condition=Other", False), ("create", True), ("delete", False),
    ("jsonpath={.status.phase}=Running", True), ("jsonpath={.status.phase}=Failed", False), ("jsonpath={.status.phase}", True),
    ("jsonpath=.status.phase=Running", True), ("jsonpath={.status.nix}", False), ("jsonpath={.status.n}=3", True),
    ("jsonpath={.status.yes}=true", True), ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True),
])
def test_of_a_pod(wish: str, holds: bool) -> None:
    assert Wish(wish).holds(POD) is holds


def test_of_nothing() -> None:
    assert Wish("delete").holds(None)
    assert not any(Wish(w).holds(None) for w in ("create", "condition=Ready", "jsonpath={.a}"))


def test_a_condition_of_an_older_generation_does_not_count() -> None:
    """condition.go: observedGeneration of the condition, else of the status, is compared with metadata.generation."""
    old = {"metadata": {"generation": 2}, "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}}
    assert not Wish("condition=Ready").holds(old)
    old["status"]["conditions"][0]["observedGeneration"] = 2
    assert Wish("condition=Ready").holds(old)


@pytest.mark.parametrize("wish", ["", "ready", "condition", "condition=", "jsonpath", "jsonpath=", "jsonpath={.a}x", "jsonpath={.a}=",
                                  "jsonpath={.a", "deleted"])
def test_what_is_nothing_to_wait_for(wish: str) -> None:
    with pytest.raises(UsageError):
        Wish(wish)


@pytest.mark.parametrize("wish", ["jsonpath={.status}=1", "jsonpath={.status.list[*]}=1", "jsonpath={.status.list}=1"])
def test_only_one_plain_value_can_be_compared(wish: str) -> None:
    with pytest.raises(UsageError):
        Wish(wish).holds(POD)
