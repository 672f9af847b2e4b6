"""OpenAI's models by their names."""

import pytest

from edge.vendors.openai_models import is_openai, nearest_effort, reasons, takes_sampling


@pytest.mark.parametrize(
    ("model", "openai", "reasoning"),
    [
        ("gpt-4o", True, False),
        ("gpt-4.1-mini", True, False),
        ("chatgpt-4o-latest", True, False),
        ("gpt-5", True, True),
        ("gpt-5.2-pro", True, True),
        ("gpt-6-nano", True, True),
        ("gpt-10", True, True),
        ("gpt-5-chat-latest", True, False),
        ("gpt-5.1-codex-max", True, True),
        ("codex-mini-latest", True, True),
        ("o1", True, True),
        ("o4-mini-2025-04-16", True, True),
        ("openai/O3", True, True),
        ("gpt-oss-120b", False, False),
        ("openai/gpt-oss-20b", False, False),
        ("deepseek-chat", False, False),
        ("olmo-2", False, False),
        ("openchat", False, False),
        ("claude-opus-4-5", False, False),
    ],
)
def test_families(model: str, openai: bool, reasoning: bool) -> None:
    assert (is_openai(model), reasons(model)) == (openai, reasoning)


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-5", "none", "minimal"),
        ("gpt-5", "xhigh", "high"),
        ("gpt-5.1", "minimal", "low"),
        ("gpt-5.1", "none", "none"),
        ("gpt-5.2", "xhigh", "xhigh"),
        ("gpt-5.2", "max", "xhigh"),
        ("o3", "none", "low"),
        ("o3", "minimal", "low"),
        ("gpt-5-codex", "minimal", "low"),
        ("gpt-5.1-codex-max", "xhigh", "xhigh"),
        ("gpt-5.3-codex", "max", "xhigh"),
        ("qwen3", "minimal", "low"),
        ("qwen3", "max", "high"),
        ("qwen3", "none", "none"),
    ],
)
def test_the_nearest_level(model: str, effort: str, sent: str) -> None:
    assert nearest_effort(model, effort) == sent


def test_sampling_only_where_nothing_is_thought() -> None:
    """kortix-ai/suna#4833, odysseus-dev/odysseus#3117, Comfy-Org/ComfyUI#13923."""
    assert takes_sampling("gpt-4o", "high")
    assert takes_sampling("llama-3", None)
    assert takes_sampling("gpt-5.1", "none")
    assert not takes_sampling("gpt-5.1", None)
    assert not takes_sampling("o3", "low")
