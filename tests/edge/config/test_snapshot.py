"""Configuration snapshots: published by the parent, read whole and with secrets by workers."""

import os
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from edge.config.load import parse
from edge.config.snapshot import ConfigSnapshot, SharedConfig, SnapshotTooLarge, digest_of

DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "canary-token-0123456789"},
    "plans": [{"id": "pro", "requests": "5/min", "windows": [{"length": "5h", "credits": "1.5"}]}],
    "upstreams": [
        {
            "name": "up",
            "dialect": "openai",
            "base_url": "https://up.example/v1",
            "api_key": "canary-key",
            "headers": {"x-more": "canary-header"},
        }
    ],
    "models": [
        {"id": "m-*", "targets": ["up/*"], "price": {"input": "3.00", "output": "15"}},
    ],
    "server": {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]},
}


def snapshot(serial: int = 1, **more: Any) -> ConfigSnapshot:
    return ConfigSnapshot.of(parse({**DOCUMENT, **more}), serial=serial, digest="d" * 16)


def test_read_in_another_process_has_the_secrets() -> None:
    shared_config = SharedConfig()
    wanted = snapshot(7)
    shared_config.publish(wanted)
    there, here = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads; the child takes no lock
        child = os.fork()
    if not child:
        try:
            found = shared_config.read()
            key = found.settings.upstreams[0].api_key
            same = found == wanted and key is not None and key.reveal() == "canary-key"
            os.write(here, b"1" if same and shared_config.serial == 7 else b"0")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(there, 1) == b"1"
    os.close(there)
    os.close(here)


def test_secret_is_hidden_in_other_pickles() -> None:
    assert b"canary" not in pickle.dumps(snapshot())


def test_snapshot_keeps_certificates_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(b"first")
    one = {**DOCUMENT["upstreams"][0], "ca": str(file)}
    shared_config = SharedConfig()
    shared_config.publish(snapshot(upstreams=[one]))
    file.write_bytes(b"second")
    assert shared_config.read().certificates == {file: b"first"}


def test_post_too_large_keeps_the_old_snapshot() -> None:
    shared_config = SharedConfig(size=20_000)
    shared_config.publish(snapshot(1))
    with pytest.raises(SnapshotTooLarge):
        shared_config.publish(
            snapshot(2, models=[{"id": f"m{n}", "targets": ["up/x"]} for n in range(999)])
        )
    assert (shared_config.serial, shared_config.read().serial) == (1, 1)


def test_read_is_the_last_snapshot_and_whole() -> None:
    shared_config = SharedConfig()
    small, large = snapshot(1), snapshot(2, brand="B" * 60, routes=routes(2000))
    shared_config.publish(small)
    over = threading.Event()

    def write() -> None:
        for n in range(30):
            shared_config.publish(large if n % 2 else small)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not over.is_set():
        found = shared_config.read()
        assert found == (large if found.serial == 2 else small)
        seen.add(found.serial)
    writer.join()
    assert seen
    assert shared_config.read() == large


def routes(number: int) -> list[dict[str, Any]]:
    return [{"path": f"/r{n}/v1/chat/completions", "dialect": "openai"} for n in range(number)]


def test_read_incomplete_snapshot_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_config = SharedConfig()
    monkeypatch.setattr("edge.config.snapshot.PATIENCE", 0.01)
    with pytest.raises(TimeoutError):
        shared_config.read()


def test_digest_is_sha256_prefix() -> None:
    # printf 'brand = "Acme"\n' | sha256sum | cut -c1-16
    assert digest_of(b'brand = "Acme"\n') == "28dcd35b1c11bc00"
