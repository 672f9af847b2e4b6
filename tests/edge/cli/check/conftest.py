"""Fixtures of the tests of `penstock check`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.edge.cli.commands import Checked, Penstock

Check = Callable[..., Checked]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Checks a configuration given as its tables."""

    def run(*options: str, **tables: Any) -> Checked:
        file = tmp_path / "penstock.json"
        file.write_text(json.dumps(tables or {"brand": "Acme"}))
        return Penstock(file, capsys).check(*options)

    return run
