"""A gateway whose configuration is in a mounted ConfigMap that changes while it serves."""

import json
from pathlib import Path
from typing import Any

import httpx

from edge.config.snapshot import digest_of

from .config_map import ConfigMapVolume
from .operator import run_status, status
from .program import Gateway, until

DOCUMENT = {
    "auth": {"admin_token": "file:token"},
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
}


def admitted(gateway: Gateway, token: str) -> bool:
    answer = httpx.get(
        f"{gateway.url}/admin/v1/keys",
        headers={"authorization": f"Bearer {token}"},
        trust_env=False,
    )
    return answer.status_code == 200


def changed(gateway: Gateway, **tables: Any) -> str:
    return json.dumps(json.loads(gateway.file.read_text()) | tables)


def found(gateway: Gateway, code: int = 0) -> str:
    """What `penstock status` prints; it finds the gateway by its file."""
    ended, said, errors = run_status(gateway)
    assert ended == code, errors
    assert f"pid {gateway.process.pid}," in said
    return said + errors


def test_config_map_swap_is_reloaded_and_the_gateway_is_found(tmp_path: Path) -> None:
    """Named relative to the working directory. The file that it names changes with it or alone."""
    volume = ConfigMapVolume(
        tmp_path / "etc", {"penstock.json": "{}", "token": "first-token-0123456789"}
    )
    gateway = Gateway(volume.folder, DOCUMENT, cwd=tmp_path)
    try:
        text = changed(gateway, models=[{"id": "other", "targets": ["near/sim-1"]}])
        volume.put({"penstock.json": text, "token": "second-token-0123456789"})
        digest = digest_of(text.encode())
        until(lambda: {one["digest"] for one in status(gateway)["workers"]} == {digest})
        assert admitted(gateway, "second-token-0123456789")
        assert not admitted(gateway, "first-token-0123456789")
        assert status(gateway)["config"] == str(volume.folder / "penstock.json")
        found(gateway)

        volume.put({"token": "third-token-0123456789"})
        until(lambda: admitted(gateway, "third-token-0123456789"), what="the new token alone")
        assert {one["digest"] for one in status(gateway)["workers"]} == {digest}

        volume.put({"penstock.json": changed(gateway, models=[{"id": "x", "targets": ["no/x"]}])})
        until(lambda: not status(gateway)["config_valid"], what="a refusal")
        assert "refused: " in found(gateway, 1)
    finally:
        assert gateway.stop() == 0, gateway.stderr
