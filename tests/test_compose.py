"""compose.yaml: services, hardening, and no password of its own."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.config.load import Settings, load

from .compose import MissingVariable, environment, services, whole
from .pages import ROOT, page

VARIABLES = {"POSTGRES_PASSWORD": "p" * 48, "REDIS_PASSWORD": "r" * 48}
SERVICES = services(VARIABLES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & service.keys()


@pytest.mark.parametrize("name", VARIABLES)
def test_password_that_is_missing_or_empty_stops_it(name: str) -> None:
    for missing in ({**VARIABLES, name: ""}, {k: v for k, v in VARIABLES.items() if k != name}):
        with pytest.raises(MissingVariable, match=name):
            services(missing)


def test_passwords_are_in_no_command_line_and_have_no_default() -> None:
    for service in SERVICES.values():
        for words in (service.get("command", []), service.get("healthcheck", {}).get("test", [])):
            assert not any(value in word for value in VARIABLES.values() for word in words)
    assert ":-" not in page("compose.yaml")
    assert not re.search(r"PASSWORD: +[^\s$]", page("compose.yaml"))


def test_only_the_gateway_is_published_and_to_this_machine_only() -> None:
    assert {name for name in SERVICES if "ports" in SERVICES[name]} == {"penstock"}
    port = Settings().server.port
    assert SERVICES["penstock"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert whole()["networks"]["stores"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["stores"]


def test_stop_gets_the_time_that_it_takes(tmp_path: Path) -> None:
    server = settings(tmp_path).server
    minutes = int(SERVICES["penstock"]["stop_grace_period"].removesuffix("m"))
    assert minutes * 60 > server.drain + server.drain_delay


def test_gateway_starts_after_its_stores_and_the_migration() -> None:
    assert SERVICES["penstock"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "redis": {"condition": "service_healthy"},
    }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("image", "build", "pull_policy", "environment", "volumes"):
        assert SERVICES["migrate"][name] == SERVICES["penstock"][name]


def settings(folder: Path) -> Settings:
    """The configuration of the gateway, loaded with the environment of its service."""
    file = folder / "penstock.toml"
    file.write_text(page("config/compose/penstock.toml"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(SERVICES["penstock"], VARIABLES).items():
            patch.setenv(name, value)
        return load(file)


def test_configuration_fits_the_services_and_the_image(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    store = loaded.store
    assert store.sql == f"postgresql://penstock:{'p' * 48}@postgres:5432/penstock"
    assert store.counters == f"redis://:{'r' * 48}@redis:6379/0"
    assert loaded.server.host == "0.0.0.0"
    mounts = dict(text.split(":")[:2] for text in SERVICES["penstock"]["volumes"])
    dockerfile = page("Dockerfile")
    configured = re.search(r"PENSTOCK_CONFIG=(\S+)", dockerfile)
    assert configured and configured[1] == f"{mounts['./config/compose']}/penstock.toml"
    assert f"/{mounts['state'].strip('/')} " in dockerfile.replace("\n", " ")
    for path in (store.journal, store.objects.removeprefix("file:")):
        assert str(path).startswith(f"{mounts['state']}/")


def test_commented_provider_is_valid_and_its_secret_is_passed_on(tmp_path: Path) -> None:
    text = page("config/compose/penstock.toml")
    text = re.sub(r"^#(?=[^ ]|$)", "", text, flags=re.MULTILINE)
    secrets = set(re.findall(r'"env:(\w+)"', text))
    wanted: dict[str, Any] = SERVICES["penstock"]["environment"]
    assert secrets <= wanted.keys()
    assert len(tomllib.loads(text)["models"]) == 2


def test_images_of_others_have_a_version() -> None:
    for name in ("postgres", "redis"):
        assert re.fullmatch(rf"{name}:\d+", SERVICES[name]["image"])
    assert yaml.safe_load(page("compose.yaml"))["name"] == "penstock"
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
