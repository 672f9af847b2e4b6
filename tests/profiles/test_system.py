"""The five files as systems: valid and served as they are; and how tests run them."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import jsonschema
import pytest

from edge.cli.check.run import findings_of
from edge.cli.check.subject import Subject
from edge.config import profiles
from edge.config.load import SettingsError, load
from edge.config.simulated import variables
from tests.clients.programs import NODE, PACKAGES
from tests.e2e.program import DEADLINE, SCRIPT, Gateway, Program, environment
from tests.pages import ROOT, block, page

from . import snippets
from .system import CANARY, NAMES, canary, client_from, document_of, file_of, from_address

PROFILE = "claude-code-proxy"
CHANGES = {"limits": {"address": "5/min", "address_burst": 0}}


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_valid_by_the_schema_for_editors(name: str) -> None:
    schema = json.loads((ROOT / "config/schema.json").read_text())
    jsonschema.validate(document_of(name), schema)


def keys_of(name: str) -> dict[str, str]:
    """Each variable that a profile asks for, with a canary as its value."""
    return {variable: canary(variable) for variable in variables(document_of(name))}


@pytest.mark.parametrize("name", NAMES)
def test_check_of_a_profile_finds_nothing_once_its_keys_are_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the machine lacks (memory, cores, disk) is no matter of the file."""
    programs = os.pathsep.join(map(str, (PACKAGES / ".bin", NODE.parent, os.environ["PATH"])))
    monkeypatch.setenv("PATH", programs)
    settings = load(file_of(name), env=keys_of(name))
    found = findings_of(Subject(settings, file_of(name)), offline=True)
    bad = [one for one in found if one.state in ("warning", "error")]
    assert not [one for one in bad if one.group in ("config", "media", "upstreams", "prices")]
    assert CANARY not in str(found)


@pytest.mark.parametrize("name", NAMES)
def test_profile_says_which_keys_are_missing(name: str) -> None:
    if not (wanted := keys_of(name)):
        load(file_of(name), env={})
        return
    with pytest.raises(SettingsError) as refused:
        load(file_of(name), env={})
    faults = refused.value.faults
    found = [re.fullmatch(r".*: environment variable (\w+) is not set", fault) for fault in faults]
    assert {match and match[1] for match in found} == set(wanted)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "capio"])
def test_profile_serves_as_it_is_once_its_keys_are_set(name: str, tmp_path: Path) -> None:
    """No provider is asked. Capio is the next test's."""
    file = tmp_path / "penstock.toml"
    file.write_text(profiles.text(name))
    options = ("--config", str(file), "--port", "0")
    gateway = Program("serve", *options, folder=tmp_path, env=environment(keys_of(name)))
    try:
        assert httpx.get(f"{gateway.url}/health", trust_env=False).status_code == 200
        assert document_of(name)["brand"] in httpx.get(f"{gateway.url}/", trust_env=False).text
        assert gateway.stop() == 0, gateway.stderr
        assert CANARY not in gateway.stderr
    finally:
        gateway.kill()


def test_lines_of_the_page_make_a_gateway(tmp_path: Path) -> None:
    """As written, but for the port and the id of the key."""
    lines = block(page("docs/profiles.md"), "sh", "serve").splitlines()
    export, written, check, create, add, serve = (line.partition(" #")[0] for line in lines)
    name, _, file = export.removeprefix("export ").partition("=")
    env = environment(keys_of("capio") | {name: file})
    env["PATH"] = f"{SCRIPT.parent}{os.pathsep}{env['PATH']}"

    def run(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run(written)
    run(f"{check} --offline")
    created = run(create)
    key, made = re.search(r"sk-capio-live-\w+", created), re.search(r"key_\w+", created)
    assert key and made
    assert "5.00 credits" in run(add.replace("key_...", made[0]))
    _, *arguments = serve.split()
    gateway = Program(*arguments, "--port", "0", folder=tmp_path, env=env, cwd=tmp_path)
    try:
        headers = {"authorization": f"Bearer {key[0]}"}
        listed = httpx.get(f"{gateway.url}/v1/models", headers=headers, trust_env=False)
        models = {one["id"] for one in listed.json()["data"]}
        assert {one["id"] for one in document_of("capio")["models"]} <= models
        limits = httpx.get(f"{gateway.url}/v1/limits", headers=headers, trust_env=False)
        assert limits.json()["credits"]["balance"] == "5.00"
    finally:
        gateway.stop()


@pytest.fixture
def url(embedded: Gateway, new_address: str) -> Iterator[str]:
    with from_address(embedded.url, new_address) as url:
        yield url


def test_each_address_has_limits_of_its_own(embedded: Gateway, url: str, new_address: str) -> None:
    """As the other tests use it: one gateway, and a new address for each of them."""
    for _ in range(5):
        assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200
    with client_from(embedded, new_address) as client:
        assert client.get("/v1/models").status_code == 429
    with client_from(embedded, "127.9.9.9") as client:
        assert client.get("/v1/models").status_code == 200


CURL = """
curl http://localhost:8000/v1/models \\
  -H "Authorization: Bearer $SOME_KEY" \\
  -H "x-canary: YOUR_KEY"
"""

PYTHON = """
import requests
response = requests.get("http://localhost:8000/v1/models")
print(response.status_code)
"""

NODE_FETCH = """
import OpenAI from 'openai';
const response = await fetch('http://localhost:8000/v1/models');
console.log(response.status, typeof OpenAI);
"""


def test_snippets_run_as_they_are_pasted(url: str, tmp_path: Path) -> None:
    replaced = {"http://localhost:8000": url}
    answer = snippets.curl(CURL, {**replaced, "YOUR_KEY": "k"}, tmp_path, SOME_KEY="dummy")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "list"
    assert snippets.python(PYTHON, replaced, tmp_path) == "200\n"
    assert snippets.node(NODE_FETCH, replaced, tmp_path) == "200 function\n"
    with pytest.raises(AssertionError, match="no 'https"):
        snippets.filled_in(CURL, {"https://api.example.com": url})
