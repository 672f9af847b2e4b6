"""The configuration that pods get, and what of it replaces them."""

import json
from typing import Any

import pytest

from edge.config.load import parse
from tests.helm.chart import NAMES, Document, rendered

VARIABLES = {
    "UPSTREAM_KEY": "up-0123456789",
    "PENSTOCK_SQL": "postgresql://penstock:secret@db.example.com/penstock",
    "PENSTOCK_COUNTERS": "redis://:secret@redis.example.com:6379/0",
}


def checksum(overlay: dict[str, Any]) -> str:
    found = rendered("full", overlay).workload
    return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/restart"])


def template(overlay: dict[str, Any]) -> Document:
    found: Document = rendered("full", overlay).workload["spec"]["template"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_json_that_the_program_accepts(name: str) -> None:
    config = rendered(name).config
    if "admin_token" in config.get("auth", {}):
        config["auth"] = {**config["auth"], "admin_token": "6a1f0c6f3b8e4d5c9a7b"}
    settings = parse(config, env=VARIABLES)
    assert settings.server.host == "0.0.0.0"
    assert float(settings.server.drain_delay) == 15.0


def test_numbers_of_the_configuration_stay_whole() -> None:
    """Helm reads numbers as floats; TOML would show it (`8080.0`), and large ones as 3.3e+07."""
    config = rendered("full").config
    assert (config["server"]["max_body"], type(config["server"]["max_body"])) == (33554432, int)
    assert config["plans"][0]["windows"][1]["credits"] == 40


def test_configuration_keeps_a_host_that_is_given() -> None:
    config = rendered("minimal", {"config": {"server": {"host": "::"}}}).config
    assert config["server"]["host"] == "::"


@pytest.mark.parametrize("name", NAMES)
def test_configuration_and_secrets_are_mounted_as_folders(name: str) -> None:
    """A file that is mounted by `subPath` stays the old one for ever."""
    for where, _, spec in rendered(name).pods:
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert not [m for m in container.get("volumeMounts", []) if "subPath" in m], where
    mounts = {one["name"]: one["mountPath"] for one in rendered(name).container["volumeMounts"]}
    assert mounts["config"] == "/etc/penstock"
    assert mounts.get("secrets", "/run/secrets/penstock") == "/run/secrets/penstock"
    env = {one["name"]: one.get("value") for one in rendered(name).container["env"]}
    assert env["PENSTOCK_CONFIG"] == "/etc/penstock/penstock.json"


@pytest.mark.parametrize(
    "change",
    [
        {"models": [{"id": "other", "targets": ["far/model"]}]},
        {"plans": [{"id": "team", "requests": "90/min"}]},
        {"server": {"public_url": "https://other.example.com"}},
        {"limits": {"address": "30/min"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_reloadable_change_leaves_the_pods(change: dict[str, Any]) -> None:
    assert rendered("full", {"config": change}).config != rendered("full").config
    assert template({"config": change}) == template({})


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"server": {"workers": 2}}},
        {"config": {"store": {"journal": "/var/lib/penstock/other"}}},
        {"config": {"auth": {"mode": "none"}}},
        {"config": {"limits": {"throttle_max_wait": "10s"}}},
        {"config": {"breaker": {"window": "10s"}}},
        {"config": {"affinity": {"ttl": "1h"}}},
        {"config": {"log": {"level": "debug"}}},
        {"secrets": {"env": {"UPSTREAM_KEY": "rotated"}}},
        {"secrets": {"existingSecret": "other"}},
    ],
    ids=lambda change: json.dumps(change),
)
def test_change_that_needs_a_restart_replaces_the_pods(change: dict[str, Any]) -> None:
    assert checksum(change) != checksum({})


def test_default_that_is_written_out_leaves_the_pods() -> None:
    assert checksum({"config": {"log": {"level": "info"}}}) == checksum({})


def test_secret_file_that_changes_leaves_the_pods() -> None:
    """A reload reads files that the configuration names."""
    assert template({"secrets": {"files": {"admin-token": "9b0e4c5d6f7a8b9c0d1e"}}}) == template({})


def test_existing_config_replaces_ours() -> None:
    found = rendered("full", {"existingConfig": "mine"})
    volume = next(one for one in found.pod["volumes"] if one["name"] == "config")
    assert volume["configMap"]["name"] == "mine"
    names = {one["metadata"]["name"] for one in found.kinds("ConfigMap")}
    assert names.isdisjoint({"edge", "edge-migration"})
