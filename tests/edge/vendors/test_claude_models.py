"""Models by their names."""

import pytest

from edge.vendors.claude_models import OTHER, Claude, claude


@pytest.mark.parametrize(
    ("name", "thinking", "sampling", "max_output"),
    [
        ("claude-fable-5", "always", "none", 128_000),
        ("claude-mythos-5-2", "always", "none", 128_000),
        ("claude-opus-5", "adaptive", "none", 128_000),
        ("claude-sonnet-5", "adaptive", "none", 128_000),
        ("claude-haiku-5-5", "adaptive", "none", None),
        ("claude-opus-4-8", "adaptive", "none", 128_000),
        ("claude-opus-4-7-20260416", "adaptive", "none", 128_000),
        ("claude-sonnet-4-6", "either", "one", 128_000),
        ("claude-opus-4-5-20251101", "budget", "one", 64_000),
        ("anthropic/claude-sonnet-4.5", "budget", "one", 64_000),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "budget", "one", 64_000),
        ("claude-opus-4-1@20250805", "budget", "one", 32_000),
        ("claude-opus-4-20250514", "budget", "any", 32_000),
        ("claude-sonnet-4-0", "budget", "any", 64_000),
        ("claude-3-7-sonnet-20250219", "budget", "any", 64_000),
        ("claude-3-5-haiku-latest", "never", "any", 8192),
        ("claude-3-haiku-20240307", "never", "any", 4096),
        ("claude-next", "adaptive", "none", None),
        ("qwen3", "budget", "any", None),
        ("not-a-claude-opus-5", "budget", "any", None),
    ],
)
def test_a_name_tells(name: str, thinking: str, sampling: str, max_output: int | None) -> None:
    found = claude(name)
    assert (found.thinking, found.sampling, found.max_output) == (thinking, sampling, max_output)


def test_only_some_take_an_instruction_between_turns() -> None:
    taking = [
        name
        for name in ("fable-5", "opus-5", "sonnet-5", "opus-4-8", "opus-4-7", "sonnet-4-6")
        if claude(f"claude-{name}").system_turns
    ]
    assert taking == ["fable-5", "opus-5", "opus-4-8"]


def test_prefill_ended_with_4_6_and_schemas_began_with_4_5() -> None:
    def both(name: str) -> tuple[bool, bool]:
        found: Claude = claude(name)
        return found.prefill, found.structured

    assert both("claude-opus-4-1") == (True, False)
    assert both("claude-sonnet-4-5") == (True, True)
    assert both("claude-sonnet-4-6") == (False, True)


def test_what_is_not_claude_has_no_family() -> None:
    assert claude("deepseek-chat") is OTHER
    assert not OTHER.vendor
