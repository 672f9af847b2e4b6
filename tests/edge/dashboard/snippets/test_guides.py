"""Guides of brands, models and keys that hold what a syntax could mistake for its own."""

import ast
import json
import shlex
import tomllib
from typing import Any

import pytest
from msgspec.structs import replace

from edge.dashboard.snippets import claude_code, codex, curl, openclaw, opencode
from edge.dashboard.snippets.guides import GUIDES, key_block
from edge.dashboard.snippets.setup import Block, Offered, Setup, key_variable

BRAND = 'Pen "stock\'s" \\ $HOME `id` """ {x}'
LARGE, MODEL, SMALL = ('it\'s-"a"-${HOME}', 'b"; rm -rf $HOME\\', "c-{env:HOME}-{file:/etc/x}")
KEY = "sk-'\"$KEY-${HOME}"
SETUP = Setup(
    brand=BRAND,
    slug="pen-stocks",
    url="https://llm.example.com",
    key=KEY,
    variable=key_variable("pen-stocks"),
    large=Offered(LARGE, 'The "large"', context=1_000_000, max_output=64_000, images=True),
    model=Offered(MODEL, "", context=200_000, max_output=32_000),
    small=Offered(SMALL),
    models=(Offered("another"), Offered(SMALL)),
)


def blocks(language: str) -> list[Block]:
    return [
        block for guide in GUIDES for block in guide(SETUP).blocks if block.language == language
    ]


def file(guide: Any, path: str, setup: Setup = SETUP) -> str:
    (found,) = [block.text for block in guide(setup).blocks if block.path.endswith(path)]
    return str(found)


def exports(text: str) -> dict[str, str]:
    words = shlex.split(text, comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_every_file_is_read_by_its_syntax() -> None:
    for block in blocks("json"):
        json.loads(block.text)
    for block in blocks("toml"):
        tomllib.loads(block.text)
    for block in blocks("python"):
        ast.parse(block.text)
    assert {block.language for guide in GUIDES for block in guide(SETUP).blocks} == {
        *("sh", "json", "toml", "python", "js")
    }


def test_key_is_one_word_of_the_shell() -> None:
    assert exports(key_block(SETUP).text) == {"PEN_STOCKS_API_KEY": KEY}


def test_curl_sends_the_model_and_the_key_where_one_is_needed() -> None:
    for block in curl.guide(SETUP).blocks:
        words = shlex.split(block.text.replace("\\\n", " "))
        assert json.loads(words[words.index("-d") + 1])["model"] == MODEL
        assert any("$PEN_STOCKS_API_KEY" in word for word in words)
    for block in curl.guide(replace(SETUP, needs_key=False)).blocks:
        assert "API_KEY" not in block.text


def test_claude_code_has_the_same_variables_in_both_places() -> None:
    shell = exports(claude_code.guide(SETUP).blocks[0].text)
    settings = json.loads(file(claude_code.guide, "settings.local.json"))["env"]
    assert shell.pop("PEN_STOCKS_API_KEY") == KEY
    assert shell.pop("ANTHROPIC_AUTH_TOKEN") == "$PEN_STOCKS_API_KEY"
    assert settings.pop("ANTHROPIC_AUTH_TOKEN") == KEY
    assert shell == settings
    assert settings == {
        "ANTHROPIC_BASE_URL": "https://llm.example.com",
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": LARGE,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": MODEL,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": SMALL,
        "ANTHROPIC_DEFAULT_FABLE_MODEL": LARGE,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
    }


def test_claude_code_without_known_contexts_keeps_its_own() -> None:
    unknown = replace(SETUP, large=Offered("a"), model=Offered("b"), small=Offered("c"))
    assert "MAX_CONTEXT" not in claude_code.guide(unknown).blocks[0].text


def test_codex_asks_by_responses_with_the_variable() -> None:
    settings = tomllib.loads(file(codex.guide, "config.toml"))
    assert settings == {
        "model": MODEL,
        "model_provider": "pen-stocks",
        "model_context_window": 200_000,
        "model_providers": {
            "pen-stocks": {
                "name": BRAND,
                "base_url": "https://llm.example.com/v1",
                "env_key": "PEN_STOCKS_API_KEY",
                "wire_api": "responses",
            }
        },
    }


def test_opencode_lists_the_chosen_models_first_and_replaces_nothing_in_them() -> None:
    text = file(opencode.guide, "opencode.json")
    assert "{env:" not in text and "{file:" not in text
    settings = json.loads(text)
    assert settings["small_model"] == f"pen-stocks/{SMALL}"
    models = settings["provider"]["pen-stocks"]["models"]
    assert list(models) == [MODEL, LARGE, SMALL, "another"]
    assert models[LARGE]["limit"] == {"context": 1_000_000, "output": 64_000}
    assert models[LARGE]["modalities"]["input"] == ["text", "image"]
    assert models[SMALL] == {"name": SMALL}
    assert json.loads(file(opencode.guide, "auth.json"))["pen-stocks"]["key"] == KEY


def test_openclaw_has_fallbacks_and_replaces_only_the_key() -> None:
    settings = json.loads(file(openclaw.guide, "openclaw.json"))
    provider = settings["models"]["providers"]["pen-stocks"]
    assert provider["apiKey"] == "${PEN_STOCKS_API_KEY}"
    assert settings["env"]["vars"] == {"PEN_STOCKS_API_KEY": KEY.replace("${", "$${")}
    assert settings["agents"]["defaults"]["model"] == {
        "primary": f"pen-stocks/{MODEL}",
        "fallbacks": [f"pen-stocks/{LARGE.replace('${', '$${')}", f"pen-stocks/{SMALL}"],
    }
    one = replace(SETUP, large=SETUP.model, small=SETUP.model)
    settings = json.loads(file(openclaw.guide, "openclaw.json", one))
    assert settings["agents"]["defaults"]["model"] == {"primary": f"pen-stocks/{MODEL}"}


@pytest.mark.parametrize(
    ("slug", "variable", "provider"),
    [
        ("penstock", "PENSTOCK_API_KEY", "penstock"),
        ("3-rivers", "_3_RIVERS_API_KEY", "3-rivers"),
        ("openai", "OPENAI_API_KEY", "openai-gateway"),
    ],
)
def test_names_of_a_brand_are_names_of_the_clients(slug: str, variable: str, provider: str) -> None:
    assert key_variable(slug) == variable
    assert replace(SETUP, slug=slug).provider == provider
