"""Levels and budgets of thinking."""

import pytest

from edge.dialects.conversation import EFFORTS, Reasoning
from edge.dialects.reasoning_effort import budget_of, level_of


@pytest.mark.parametrize("level", EFFORTS[1:])
def test_a_level_that_crosses_twice_is_the_level_it_was(level: str) -> None:
    budget = budget_of(level, 64_000)
    assert level_of(Reasoning(mode="enabled", budget=budget)) == level


@pytest.mark.parametrize(
    ("budget", "level"),
    [
        (1024, "minimal"),
        (2047, "minimal"),
        (2048, "low"),
        (6143, "low"),
        (6144, "medium"),
        (12287, "medium"),
        (12288, "high"),
        (24575, "high"),
        (24576, "xhigh"),
        (49151, "xhigh"),
        (49152, "max"),
    ],
)
def test_a_budget_is_a_level(budget: int, level: str) -> None:
    assert level_of(Reasoning(mode="enabled", budget=budget)) == level


@pytest.mark.parametrize(
    ("reasoning", "level"),
    [
        (Reasoning(), None),
        (Reasoning(effort="xhigh"), "xhigh"),
        (Reasoning(mode="adaptive"), None),
        (Reasoning(mode="adaptive", effort="low"), "low"),
        (Reasoning(mode="between_tools", effort="max"), "max"),
        (Reasoning(mode="disabled", effort="high"), "none"),
        (Reasoning(mode="enabled", effort="high", budget=1024), "minimal"),
        (Reasoning(mode="enabled", effort="high"), "high"),
    ],
)
def test_what_anthropic_calls_thinking_is_a_level(reasoning: Reasoning, level: str | None) -> None:
    assert level_of(reasoning) == level


def test_max_is_what_the_model_can() -> None:
    assert budget_of("max", 64_000) == 59_904
    assert budget_of("max", 4096) == 1024
    assert level_of(Reasoning(mode="enabled", budget=budget_of("max", None))) == "max"
