"""Templates are compiled beside the event loop."""

import threading
from typing import Any

import pytest

from edge.dashboard import templating

from .visits import Site


@pytest.fixture
def uncompiled() -> None:
    """As in a process that has just started."""
    templating.environment.cache_clear()
    templating.compiled.clear()


@pytest.mark.usefixtures("uncompiled")
async def test_first_request_compiles_every_template_in_a_thread(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    made = templating.environment()
    compile_ = made.compile

    def compiled(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return compile_(*args, **options)

    monkeypatch.setattr(made, "compile", compiled)
    assert (await site.browser().get("/app/sign-in")).status == 200
    count = len(threads)
    assert count >= 10
    assert threading.main_thread().name not in threads
    browser = await site.signed_in()
    for path in ("/app", "/app/account", "/"):
        assert (await browser.get(path)).status == 200
    assert len(threads) == count
