"""What the gateway keeps is for its own user alone, whatever the umask it is started with."""

from pathlib import Path
from stat import S_IMODE, S_ISDIR

import pytest

from .conftest import SECRETS
from .program import Gateway, until


@pytest.mark.parametrize("umask", ["000", "022", "277"])
def test_files_under_any_umask_are_private(tmp_path: Path, umask: str) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    document = {
        "store": {"sql": f"sqlite:///{folder}/var/sql/penstock.db", "journal": "var/rows/journal"},
        "upstreams": [{"name": "near", "dialect": "simulator"}],
        "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
    }
    within = ("sh", "-c", f'umask {umask}; exec "$0" "$@"')
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {**SECRETS, "TMPDIR": str(temporary)}
    gateway = Gateway(folder, document, env=env, wrapper=within)
    try:
        body = {"model": "sim-1", "messages": [{"role": "user", "content": "Hi"}]}
        assert gateway.post("/v1/chat/completions", body).status_code == 200
        journal = folder / "var/rows/journal"
        until(lambda: list(journal.iterdir()), what="a journal")
        (notes,) = temporary.glob("penstock-*")
        modes = {
            str(path.relative_to(tmp_path)): path.stat().st_mode
            for top in (folder / "var", notes)
            for path in (top, *top.rglob("*"))
        }
        assert any(name.endswith("penstock.db-wal") for name in modes)
        assert not {
            name: oct(mode)
            for name, mode in modes.items()
            if S_IMODE(mode) != (0o700 if S_ISDIR(mode) else 0o600)
        }
        assert gateway.stop() == 0
    finally:
        gateway.kill()
