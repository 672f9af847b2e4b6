"""Documents for tests of the configuration, and the faults that they have."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.config.load import SettingsError, parse

CONFIG = Path(__file__).parents[3] / "config"
CANARY = "c4n4ry-51f0-secret"
UPSTREAM = {"name": "up", "dialect": "openai", "base_url": "https://up.example/v1"}
MODEL = {"id": "m", "targets": ["up/m"]}


def faults(
    document: object, directory: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        parse(document, directory, env=env or {})
    return raised.value.faults


def upstream(**fields: Any) -> dict[str, Any]:
    return {"upstreams": [{**UPSTREAM, **fields}]}


def model(**fields: Any) -> dict[str, Any]:
    return {"upstreams": [UPSTREAM], "models": [{**MODEL, **fields}]}


def uncommented(text: str) -> str:
    return "\n".join(re.sub(r"^#(?=[^ #\n])", "", line) for line in text.splitlines())
