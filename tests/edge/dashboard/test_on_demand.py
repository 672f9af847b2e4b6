"""The dashboard is loaded by the first request for a page."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from edge.dashboard import on_demand
from edge.dashboard.on_demand import DashboardOnDemand

from .visits import Site, around


@pytest.fixture
def fresh(site: Site) -> Site:
    """A site of which no page was asked for."""
    return replace(site, app=around(DashboardOnDemand(site.parts), site.parts.settings))


async def test_first_requests_at_once_are_all_answered_by_one_app(
    fresh: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("edge.dashboard.app")
    made: list[object] = []

    class Counted(module.DashboardApp):  # type: ignore[name-defined,misc]
        def __init__(self, *args: Any) -> None:
            made.append(self)
            super().__init__(*args)

    monkeypatch.setattr(module, "DashboardApp", Counted)
    pages = await asyncio.gather(*(fresh.browser().get("/") for _ in range(5)))
    assert [page.status for page in pages] == [200] * 5
    assert len({page.text for page in pages}) == 1
    assert len(made) == 1


async def test_pages_that_cannot_be_loaded_fail_that_request_only(
    fresh: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(name: str) -> ModuleType:
        raise ImportError(f"cannot import {name}")

    with monkeypatch.context() as patched:
        patched.setattr(on_demand, "import_module", failing)
        assert (await fresh.browser().get("/")).status == 500
    assert (await fresh.browser().get("/")).status == 200


def test_worker_starts_without_pages() -> None:
    code = "import sys, edge.app; print({'jinja2', 'edge.dashboard.pages'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
