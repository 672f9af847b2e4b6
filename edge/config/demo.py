"""The built-in configuration of `penstock demo`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .load import Settings, parse


class _Provider(msgspec.Struct, frozen=True):
    name: str
    key: str
    url: str
    base_url: str
    models: tuple[str, ...]


_PROVIDERS = (
    _Provider(
        "openai",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "https://api.openai.com/v1",
        (
            *("gpt-5.5", "gpt-5.4-mini", "text-embedding-3-small"),
            *("gpt-*", "o1*", "o3*", "o4*", "text-embedding-*"),
        ),
    ),
    _Provider(
        "anthropic",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com/v1",
        ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-*"),
    ),
)


def demo_settings(env: Mapping[str, str], directory: Path) -> Settings:
    """The built-in configuration: simulator, SQLite in `directory`, counters in memory.

    A provider whose key is in `env` (OPENAI_API_KEY, ANTHROPIC_API_KEY) is an upstream too, with
    every model name of its families. OPENAI_BASE_URL and ANTHROPIC_BASE_URL set its base URL.
    Raises SettingsError when one of these variables cannot be used.
    """
    upstreams: list[dict[str, Any]] = [{"name": "simulator", "dialect": "simulator"}]
    models: list[dict[str, Any]] = [
        {
            "id": "sim-1",
            "aliases": ["sim"],
            "display_name": "Simulator",
            "context": 200_000,
            "max_output": 32_000,
            "modalities": ["text", "image"],
            "targets": ["simulator/sim-1"],
        }
    ]
    for provider in _PROVIDERS:
        if env.get(provider.key):
            upstreams.append(
                {
                    "name": provider.name,
                    "dialect": provider.name,
                    "base_url": _versioned(env.get(provider.url) or provider.base_url),
                    "api_key": f"env:{provider.key}",
                }
            )
            models += [
                {"id": id_, "targets": [f"{provider.name}/{id_ if id_[-1] != '*' else '*'}"]}
                for id_ in provider.models
            ]
    database = directory.resolve() / "penstock.db"
    document = {
        "store": {"sql": f"sqlite:///{database}", "journal": f"{database.parent}/journal"},
        "upstreams": upstreams,
        "models": models,
        "log": {"format": "console"},
    }
    return parse(document, directory, env=env)


def _versioned(url: str) -> str:
    # The Anthropic SDK reads ANTHROPIC_BASE_URL without the version, OpenAI's with it.
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"
