"""Hashes of passwords: what is taken, and what the configuration takes."""

from typing import Any

import pytest
from argon2 import PasswordHasher

from edge.config.load import SettingsError, parse
from edge.config.secrets import PasswordHash
from edge.dashboard.sessions.password_hash import PasswordRefused, matches, new_hash
from edge.management.advice import advice

GOOD = "correct horse battery"
BASE = {"upstreams": [{"name": "sim", "dialect": "simulator"}]}


def parsed(value: str, env: dict[str, str]) -> PasswordHash:
    settings = parse({**BASE, "dashboard": {"admin_password": value}}, env=env)
    assert settings.dashboard.admin_password is not None
    return settings.dashboard.admin_password


def test_hash_matches_its_password_only() -> None:
    made = new_hash(GOOD)
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert matches(made, GOOD)
    assert not matches(made, GOOD + " ")
    assert not matches("$argon2id$v=19$nonsense", GOOD)
    assert new_hash(GOOD) != made


@pytest.mark.parametrize(
    "password",
    ["", "short", "123456789012", "aaaaaaaaaaaaaaaa", "Password1234!", "adminadmin123", "x" * 301],
)
def test_password_that_is_easily_guessed_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        new_hash(password)


def test_hash_is_read_from_a_variable() -> None:
    made = new_hash(GOOD)
    found = parsed("env:PASSWORD", {"PASSWORD": made})
    assert found.reveal() == made
    assert made not in repr(found) + str(found)
    assert not found.weak


@pytest.mark.parametrize(
    ("value", "env"),
    [
        pytest.param(new_hash(GOOD), {}, id="hash itself"),
        ("plain-text-password-123", {}),
        ("env:PASSWORD", {"PASSWORD": "plain-text-password-123"}),
        ("env:PASSWORD", {"PASSWORD": "admin"}),
        ("env:PASSWORD", {"PASSWORD": ""}),
        ("env:PASSWORD", {"PASSWORD": "$2b$12$" + "a" * 53}),
        ("env:PASSWORD", {"PASSWORD": "$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$" + "a" * 43}),
        ("env:PASSWORD", {"PASSWORD": "$argon2id$v=19$m=99999999,t=3,p=4$c29tZXNhbHQ$" + "a" * 43}),
    ],
)
def test_anything_but_a_hash_by_reference_is_refused_and_not_repeated(
    value: str, env: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        parsed(value, env)
    (fault,) = refused.value.faults
    assert fault.startswith("dashboard.admin_password: ")
    for text in (value, *env.values()):
        assert len(text) < 12 or text.startswith("env:") or text not in fault


@pytest.mark.parametrize(
    ("document", "noted"),
    [
        ({"server": {"host": "0.0.0.0"}}, True),
        ({"server": {"host": "0.0.0.0", "public_url": "https://a.example"}}, False),
        ({"server": {"host": "0.0.0.0"}, "dashboard": {"enabled": False}}, False),
        ({}, False),
    ],
)
def test_unknown_public_url_is_a_note_of_check(document: dict[str, Any], noted: bool) -> None:
    notes = advice(parse({**BASE, **document}))
    assert any(note.startswith("dashboard.public_url: ") for note in notes) is noted


def test_weak_parameters_are_a_note_of_check() -> None:
    weak = PasswordHasher(1, 8192, 1).hash(GOOD)
    settings = parse(
        {**BASE, "dashboard": {"admin_password": "env:PASSWORD"}}, env={"PASSWORD": weak}
    )
    assert any(note.startswith("dashboard.admin_password: ") for note in advice(settings))
