"""The five files as systems: valid as they are, and answering on both kinds of stores."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import jsonschema
import pytest

from tests.clients.programs import NODE, PACKAGES
from tests.e2e.program import DEADLINE, Gateway, Program, command, environment
from tests.pages import ROOT

from . import snippets
from .system import (
    CANARY,
    NAMES,
    canary,
    client_from,
    document_of,
    file_of,
    serve_profile,
    variables,
)

PROFILE = "claude-code-proxy"
CHANGES = {"limits": {"address": "5/min", "address_burst": 0}}


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_valid_by_the_schema_for_editors(name: str) -> None:
    schema = json.loads((ROOT / "config/schema.json").read_text())
    jsonschema.validate(document_of(name), schema)


@pytest.mark.parametrize("name", NAMES)
def test_check_of_a_profile_finds_nothing_once_its_keys_are_set(name: str) -> None:
    """What the machine lacks (memory, cores, disk) is no matter of the file."""
    programs = os.pathsep.join(map(str, (PACKAGES / ".bin", NODE.parent, os.environ["PATH"])))
    keys = {variable: canary(variable) for variable in variables(document_of(name))}
    done = subprocess.run(
        command("check", "--offline", "--json", "--config", str(file_of(name))),
        env=environment({**keys, "PATH": programs}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert CANARY not in done.stdout + done.stderr
    found = json.loads(done.stdout)["findings"]
    bad = [one for one in found if one["state"] in ("warning", "error")]
    assert not [one for one in bad if one["group"] in ("config", "media", "upstreams", "prices")]


@pytest.mark.parametrize("name", NAMES)
def test_profile_says_which_key_is_missing(name: str) -> None:
    done = subprocess.run(
        command("check", "--offline", "--config", str(file_of(name))),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    wanted = set(variables(document_of(name)))
    lines = done.stderr.splitlines()
    assert all(line.endswith(" is not set") for line in lines), done.stderr
    assert {line.split()[-4] for line in lines} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_profile_serves_its_models(name: str, tmp_path: Path, simulator: Program) -> None:
    gateway = serve_profile(name, tmp_path, simulator, claude="unchanged")
    try:
        listed = gateway.get("/v1/models", headers=gateway.bearer)
        assert listed.status_code == 200, listed.text
        model = document_of(name)["models"][0]["id"]
        assert model in {one["id"] for one in listed.json()["data"]}
        assert gateway.stop() == 0, gateway.stderr
        assert CANARY not in gateway.stderr
    finally:
        gateway.kill()


def test_each_address_has_limits_of_its_own(
    gateway: Gateway, url_from_new_address: str, new_address: str
) -> None:
    """As the other tests use it: one gateway, and a new address for each of them."""
    for _ in range(5):
        assert httpx.get(f"{url_from_new_address}/v1/models", trust_env=False).status_code == 200
    with client_from(gateway, new_address) as client:
        assert client.get("/v1/models").status_code == 429
    with client_from(gateway, "127.9.9.9") as client:
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


def test_snippets_run_as_they_are_pasted(url_from_new_address: str, tmp_path: Path) -> None:
    replaced = {"http://localhost:8000": url_from_new_address}
    answer = snippets.curl(CURL, {**replaced, "YOUR_KEY": "k"}, tmp_path, SOME_KEY="dummy")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "list"
    assert snippets.python(PYTHON, replaced, tmp_path) == "200\n"
    assert snippets.node(NODE_FETCH, replaced, tmp_path) == "200 function\n"
    with pytest.raises(AssertionError, match="no 'https"):
        snippets.filled_in(CURL, {"https://api.example.com": url_from_new_address})
