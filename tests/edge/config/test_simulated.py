"""Upstreams without keys, replaced by simulators and local models."""

from copy import deepcopy
from typing import Any

import pytest

from edge.config import profiles
from edge.config.load import parse
from edge.config.simulated import LocalModels, simulated, variables

LOCAL = LocalModels(
    (
        {"name": "local-openai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "local-anthropic", "dialect": "anthropic", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "local-media", "dialect": "local-media"},
    ),
    {"openai": "local-openai/small", "anthropic": "local-anthropic/small"},
    speech="local-media/voice",
    transcript="local-media/whisper",
    reader="local-media/ocr",
)
DOCUMENT: dict[str, Any] = {
    "upstreams": [
        {
            "name": "one",
            "dialect": "openai",
            "base_url": "https://one.example/v1",
            "headers": {"x-key": "env:ONE_KEY", "x-tenant": "env:ONE_TENANT"},
            "jobs": "suno",
        },
        {
            "name": "two",
            "dialect": "anthropic",
            "base_url": "https://two.example/v1",
            "api_key": "env:TWO_KEY",
        },
        {"name": "client", "dialect": "claude-cli"},
    ],
    "models": [
        {
            "id": "both",
            "targets": ["one/a", "two/b"],
            "families": ["gpt-5", "claude-opus"],
            "weights": [1, 3],
            "load_balancing": "weight",
        },
        {"id": "seeing", "modalities": ["text", "image"], "targets": ["two/c"]},
        {"id": "hearing", "modalities": ["text", "audio"], "targets": ["two/c"]},
        {"id": "spoken", "output_modalities": ["audio"], "targets": ["two/d"]},
        {"id": "song", "output_modalities": ["audio"], "targets": ["one/d"]},
        {"id": "ear", "modalities": ["audio"], "targets": ["two/e"]},
        {"id": "painted", "output_modalities": ["image"], "targets": ["two/f"]},
        {"id": "cli", "targets": ["client/sonnet"], "family": "claude-sonnet"},
    ],
}


def models(**options: Any) -> dict[str, dict[str, Any]]:
    env = options.pop("env", {})
    return {one["id"]: one for one in simulated(DOCUMENT, env, **options).document["models"]}


def test_upstream_without_its_variables_is_a_simulator_and_keeps_nothing_of_http() -> None:
    before = deepcopy(DOCUMENT)
    made = simulated(DOCUMENT, {"ONE_KEY": "k", "TWO_KEY": ""})
    assert made.document["upstreams"] == [
        {"name": "one", "dialect": "simulator", "jobs": "elevenlabs"},
        {"name": "two", "dialect": "simulator"},
        {"name": "client", "dialect": "simulator"},
    ]
    assert made.document["models"] == DOCUMENT["models"]
    assert made.missing == {"one": ("ONE_TENANT",), "two": ("TWO_KEY",), "client": ()}
    assert made.real == ()
    assert before == DOCUMENT


def test_upstream_with_its_variables_is_real_and_alone_serves_its_models() -> None:
    made = simulated(DOCUMENT, {"TWO_KEY": "k"})
    assert made.real == ("two",)
    assert made.document["upstreams"][1] == DOCUMENT["upstreams"][1]
    both = made.document["models"][0]
    assert both["targets"] == ["two/b"]
    assert both["families"] == ["claude-opus"]
    assert both["weights"] == [3]
    assert made.simulated == {"one", "client"}
    parse(made.document, env={"TWO_KEY": "k"})


def test_vendor_whose_results_are_links_is_another_one_in_the_simulator() -> None:
    model = {**DOCUMENT["models"][4], "jobs": "minimax"}
    film = {"id": "film", "output_modalities": ["video"], "targets": ["one/f"], "jobs": "xai"}
    document = {**DOCUMENT, "models": [model, film]}
    song, film = simulated(document, {}).document["models"]
    assert song["jobs"] == "minimax"
    assert "jobs" not in film


def test_claude_client_is_never_real() -> None:
    assert simulated(DOCUMENT, {"ONE_KEY": "k"}).missing["client"] == ()


def test_local_models_serve_what_they_can_in_the_dialect_of_the_upstream() -> None:
    served = {id_: one["targets"] for id_, one in models(local=LOCAL).items()}
    assert served == {
        "both": ["local-openai/small", "local-anthropic/small"],
        "seeing": ["local-anthropic/small"],
        "hearing": ["two/c"],
        "spoken": ["local-media/voice"],
        "song": ["one/d"],
        "ear": ["local-media/whisper"],
        "painted": ["two/f"],
        "cli": ["local-anthropic/small"],
        "local-ocr": ["local-media/ocr"],
    }


def test_local_model_takes_text_only_and_pictures_are_read_to_it() -> None:
    whole = simulated(DOCUMENT, {}, LOCAL)
    assert whole.local == {"one", "two", "client"}
    assert whole.simulated == {"one", "two"}
    made = whole.document
    seeing = next(one for one in made["models"] if one["id"] == "seeing")
    assert seeing["modalities"] == ["text"]
    assert seeing["max_output"] == 512
    assert made["media"] == {"image": "local-ocr"}
    assert "family" not in next(one for one in made["models"] if one["id"] == "cli")
    parse(made, env={})


def test_models_that_describe_media_see_or_read() -> None:
    document = {**DOCUMENT, "media": {"image": "seeing", "audio": "ear"}}
    named = {one["id"]: one for one in simulated(document, {}).document["models"]}
    assert named["seeing"]["targets"] == ["two/sim-eye"]
    named = {one["id"]: one for one in simulated(document, {}, LOCAL).document["models"]}
    assert named["seeing"]["targets"] == ["local-media/ocr"]
    assert named["seeing"]["modalities"] == ["text", "image"]
    assert named["ear"]["targets"] == ["local-media/whisper"]
    assert "local-ocr" not in named


@pytest.mark.parametrize("name", profiles.names())
@pytest.mark.parametrize("local", [None, LOCAL], ids=["simulated", "local"])
def test_every_profile_is_valid_without_any_key(name: str, local: LocalModels | None) -> None:
    document = profiles.document(name)
    made = simulated(document, {}, local)
    assert made.real == ()
    assert not list(variables(made.document))
    settings = parse(made.document, env={})
    visible = [one["id"] for one in document["models"]]
    assert [one.id for one in settings.models if one.id != "local-ocr"] == visible
