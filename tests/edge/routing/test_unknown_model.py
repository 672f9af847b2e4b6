"""Which name a misspelt one is taken for."""

from collections.abc import Iterator

import pytest

from edge.routing.unknown_model import closest

NAMES = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "claude-sonnet-4-5",
    "claude-opus-4-1",
    "deepseek-v4-flash",
    "llama-3.3-70b-instruct",
    "vendor/qwen-max",
    "chat",
    "m1",
]


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("gpt4o", "gpt-4o"),
        ("GPT-4O", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o[1M]", "gpt-4o"),
        ("gpt_4o_mini", "gpt-4o-mini"),
        ("claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("anthropic/claude-opus-4.1", "claude-opus-4-1"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("deepseek-v4-falsh", "deepseek-v4-flash"),
        ("deepseek", "deepseek-v4-flash"),
        ("llama3.3", "llama-3.3-70b-instruct"),
        ("qwen-max", "vendor/qwen-max"),
        ("other/qwen-max", "vendor/qwen-max"),
        ("chta", "chat"),
        ("M1", "m1"),
    ],
)
def test_closest_misspelt_name_is_found(asked: str, near: str) -> None:
    assert closest(asked, NAMES) == near


@pytest.mark.parametrize(
    "asked",
    ["", "/", "///", "m", "m2", "nope", "gemini-2.5-pro", "text-embedding-3", "x" * 256, "\u00fc"],
)
def test_closest_name_like_no_other_is_none(asked: str) -> None:
    assert closest(asked, NAMES) is None


def test_closest_of_two_as_close_is_the_first() -> None:
    assert closest("qwen", ["a/qwen-1", "b/qwen-2"]) == "a/qwen-1"
    assert closest("b/qwen", ["a/qwen-1", "b/qwen-1"]) == "b/qwen-1"


def test_closest_looks_at_a_bounded_number_of_names() -> None:
    taken = 0

    def names() -> Iterator[str]:
        nonlocal taken
        for n in range(100_000):
            taken += 1
            yield f"vendor/model-{n}"

    assert closest("vendor/model-1", names()) == "vendor/model-1"
    assert taken <= 500
