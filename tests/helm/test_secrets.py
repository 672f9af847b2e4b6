"""Secrets: ours, those of the operator, and where they never stand."""

import json
from base64 import b64decode
from typing import Any

import pytest

from tests.helm.chart import NAMES, rendered

CANARIES = (
    *("up-0123456789", "6a1f0c6f3b8e4d5c9a7b", "redis-for-tests"),
    *("postgres-for-tests", ":secret@"),
)


def test_secrets_have_the_values() -> None:
    found = rendered("full")
    env = found.one("Secret", "edge-env")["data"]
    assert b64decode(env["UPSTREAM_KEY"]).decode() == "up-0123456789"
    files = found.one("Secret", "edge-files")["data"]
    assert b64decode(files["admin-token"]).decode() == "6a1f0c6f3b8e4d5c9a7b"
    volume = next(one for one in found.pod["volumes"] if one["name"] == "secrets")
    assert volume["secret"] == {"secretName": "edge-files", "defaultMode": 0o440}


def test_existing_secrets_suppress_ours() -> None:
    existing = {"secrets": {"existingSecret": "mine", "existingFiles": "my-files"}}
    found = rendered("full", existing)
    assert not found.kinds("Secret")
    assert found.container["envFrom"][0] == {"secretRef": {"name": "mine"}}
    volume = next(one for one in found.pod["volumes"] if one["name"] == "secrets")
    assert volume["secret"]["secretName"] == "my-files"


@pytest.mark.parametrize("name", NAMES)
def test_secrets_stand_in_secrets_only(name: str) -> None:
    found = rendered(name)
    others = json.dumps([one for one in found.all if one["kind"] != "Secret"])
    assert not [canary for canary in CANARIES if canary in others]


EXISTING = {"redis": {"existingSecret": "r"}, "postgresql": {"existingSecret": "p"}}


@pytest.mark.parametrize("values", [{}, EXISTING], ids=["ours", "existing"])
def test_passwords_of_bundled_stores_come_from_a_secret(values: dict[str, Any]) -> None:
    found = rendered("bundled", values)
    env = {one["name"]: one for one in found.container["env"]}
    names = [
        env[name]["valueFrom"]["secretKeyRef"]["name"]
        for name in ("REDIS_PASSWORD", "POSTGRES_PASSWORD")
    ]
    assert names == (["r", "p"] if values else ["penstock-redis", "penstock-postgresql"])
    made = {one["metadata"]["name"] for one in found.kinds("Secret")}
    assert made == (set() if values else set(names))
    order = list(env)
    assert order.index("REDIS_PASSWORD") < order.index("PENSTOCK_COUNTERS"), "it is referred to"
    assert order.index("POSTGRES_PASSWORD") < order.index("PENSTOCK_SQL")
    assert env["PENSTOCK_COUNTERS"]["value"] == "redis://:$(REDIS_PASSWORD)@penstock-redis:6379/0"
    assert env["PENSTOCK_SQL"]["value"] == (
        "postgresql://penstock:$(POSTGRES_PASSWORD)@penstock-postgresql:5432/penstock"
    )
    assert found.config["store"]["sql"] == "env:PENSTOCK_SQL"
    assert found.config["store"]["counters"] == "env:PENSTOCK_COUNTERS"


def test_probes_and_arguments_of_bundled_stores_have_no_password() -> None:
    for where, _, spec in rendered("bundled").pods:
        for one in spec["containers"]:
            words = json.dumps(
                [one.get("args"), one.get("command")]
                + [one.get(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
            )
            assert "PASSWORD" not in words, where
            assert " -a " not in words, where
