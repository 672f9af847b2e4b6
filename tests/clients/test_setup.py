"""Set-up text of each client, pasted as shown, with the real program.

The brand and the names of models hold what a syntax could mistake for its own. The gateway's log
says which endpoint was asked and which model served.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from edge.dashboard.snippets import claude_code, codex, curl, openclaw, opencode, vendor_sdks
from edge.dashboard.snippets.guides import key_block
from edge.dashboard.snippets.setup import Offered, Setup, key_variable
from middlewares.stores.keys.base import slug
from tests.e2e.program import Gateway, Program, until

from .conftest import DIALECTS
from .pasted import Desk

BRAND = 'Pen\'$HOME "stock" \\ #1'
TOKEN = "admin-canary-5d1f0c9e2b7a4e61"
SAID = "This answer was made by the simulator."
LARGE, MODEL, SMALL = (f"it's-{name}-$HOME-${{HOME}}-{{env:HOME}}-`x`" for name in DIALECTS)


@pytest.fixture(scope="module")
def branded(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """A gateway whose brand and names of models need escapes."""
    document = {
        "brand": BRAND,
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [
            {"name": dialect, "dialect": dialect, "base_url": f"{simulator.url}/v1"}
            for dialect in DIALECTS
        ],
        "models": [
            {
                "id": f"on-{dialect}",
                "aliases": [alias],
                "targets": [f"{dialect}/far-model"],
                "price": {"input": "1.00", "output": "2.00"},
            }
            for dialect, alias in zip(DIALECTS, (LARGE, MODEL, SMALL), strict=True)
        ],
        "plans": [
            {
                "id": "paid",
                "windows": [{"length": "5h", "credits": "5.00"}],
                "overflow": "credits",
            },
            {"id": "shared", "windows": [{"length": "7d", "credits": "9.00"}]},
        ],
    }
    program = Gateway(tmp_path_factory.mktemp("branded"), document, env={"ADMIN_TOKEN": TOKEN})
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def setup(gateway: Gateway, name: str, model: str = MODEL, **fields: str) -> Setup:
    """What the page would make its text from. name, fields: of a new key."""
    large, small, chosen = (
        Offered(each, f'The "{each}"', 150_000, 8_000, images=True)
        for each in (LARGE, SMALL, model)
    )
    return Setup(
        brand=BRAND,
        slug=slug(BRAND),
        url=gateway.url,
        key=gateway.new_key(name, plan="paid", **fields),
        variable=key_variable(slug(BRAND)),
        large=large,
        model=chosen,
        small=small,
        models=(large, chosen, small),
    )


def asked(
    gateway: Gateway, name: str, wanted: Iterable[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """Path, and model that served or problem, of all requests with the key `name`, once those that
    are wanted have their lines: these come some time after the answer."""

    def lines() -> list[tuple[str, str]]:
        found = [line for line in gateway.log if line.get("key_name") == name]
        return [(line["path"], line.get("served") or line["problem"]) for line in found]

    all_of_them = Counter(wanted)
    until(lambda: Counter(lines()) >= all_of_them, what=f"{all_of_them} of {name}")
    return lines()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_python_and_javascript_of_openai_print_an_answer(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "openai")
    assert desk.paste(vendor_sdks.openai(pasted)) == []
    printed = desk.shell(key_block(pasted).text, "python hello.py", "node hello.mjs")
    assert printed.count(SAID) == 2
    wanted = [("/v1/chat/completions", "on-anthropic")] * 2
    assert asked(branded, "openai", wanted) == wanted


def test_python_and_javascript_of_anthropic_print_an_answer(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "anthropic")
    assert desk.paste(vendor_sdks.anthropic(pasted)) == []
    printed = desk.shell(key_block(pasted).text, "python hello.py", "node hello.mjs")
    assert printed.count(SAID) == 2
    wanted = [("/v1/messages", "on-anthropic")] * 2
    assert asked(branded, "anthropic", wanted) == wanted


def test_claude_code_in_a_shell_asks_for_the_chosen_models(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "claude-shell")
    variables, start = desk.paste(claude_code.guide(pasted))
    desk.place(".claude/settings.local.json").unlink()
    assert start == "claude\n"
    models = [("opus", "on-openai"), ("sonnet", "on-anthropic"), ("haiku", "on-responses")]
    for tier, _ in models:
        result = json.loads(
            desk.shell(variables, f"claude -p Hello --output-format json --model {tier}")
        )
        assert SAID in result["result"]
    wanted = {("/v1/messages", model) for _, model in models}
    assert set(asked(branded, "claude-shell", wanted)) == wanted


def test_claude_code_in_a_project_starts_with_opus(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "claude-project")
    desk.paste(claude_code.guide(pasted))
    result = json.loads(desk.shell("claude -p Hello --output-format json"))
    assert SAID in result["result"]
    assert asked(branded, "claude-project", [("/v1/messages", "on-openai")])


def test_status_line_shows_what_is_left_and_the_next_reset(branded: Gateway, desk: Desk) -> None:
    """Of the key and of its team. A request begins the window, which then has a reset."""
    team = httpx.post(
        f"{branded.url}/admin/v1/teams",
        json={"name": "crew", "plan": "shared"},
        headers={"authorization": f"Bearer {TOKEN}"},
        trust_env=False,
    ).json()
    pasted = setup(branded, "status", team=team["id"])
    bearer = {"authorization": f"Bearer {pasted.key}"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    assert branded.post("/v1/chat/completions", body, **bearer).status_code == 200
    variables, _ = desk.paste(claude_code.guide(pasted))
    desk.paste(claude_code.status_line(pasted))
    settings = json.loads(desk.place("~/.claude/settings.json").read_text())
    printed = desk.shell("export TZ=UTC", variables, settings["statusLine"]["command"])
    limits = branded.get("/v1/limits", headers=bearer).json()
    (window,), (shared,) = limits["windows"], limits["team"]["windows"]
    reset = datetime.fromisoformat(window["resets_at"]).strftime("%a %H:%M")
    assert window["remaining"] < window["cap"]
    assert printed == (
        f"{BRAND} | 5h: {window['remaining']} left, resets {reset} | credits: 0.00 "
        f"| team 7d: {shared['remaining']} left, "
        f"resets {datetime.fromisoformat(shared['resets_at']).strftime('%a %H:%M')}\n"
    )


def test_codex_asks_for_the_chosen_model(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "codex")
    (start,) = desk.paste(codex.guide(pasted))
    assert start.endswith("\ncodex\n")
    printed = desk.shell(start.removesuffix("\n") + " exec --skip-git-repo-check Hello")
    assert SAID in printed
    wanted = {("/v1/responses", "on-anthropic")}
    assert set(asked(branded, "codex", wanted)) == wanted


def test_opencode_asks_for_the_chosen_models(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "opencode")
    (start,) = desk.paste(opencode.guide(pasted))
    provider = slug(BRAND)
    printed = desk.shell(start, "opencode auth list 2>&1", f"opencode models {provider}")
    assert SAID in printed
    assert f"{provider} " in printed and f"{provider}/{MODEL}" in printed
    wanted = {("/v1/chat/completions", model) for model in ("on-anthropic", "on-responses")}
    assert set(asked(branded, "opencode", wanted)) == wanted


def test_openclaw_asks_for_the_chosen_model_and_then_for_the_next(
    branded: Gateway, desk: Desk
) -> None:
    """The first model is one that the key may not use."""
    pasted = setup(branded, "openclaw", model="gone-${HOME}")
    start, shows = desk.paste(openclaw.guide(pasted))
    assert SAID in desk.shell(start)
    shown = desk.shell(shows)
    assert f"...{pasted.key[-8:]}" in shown
    assert f"/{SMALL}" in shown
    wanted = [("/v1/chat/completions", served) for served in ("model_not_found", "on-openai")]
    assert list(dict.fromkeys(asked(branded, "openclaw", wanted))) == wanted


def test_curl_streams_each_dialect_to_its_end(branded: Gateway, desk: Desk) -> None:
    pasted = setup(branded, "curl")
    printed = desk.shell(key_block(pasted).text, *desk.paste(curl.guide(pasted)))
    assert "data: [DONE]" in printed
    assert '"type":"message_stop"' in printed
    assert '"type":"response.completed"' in printed
    paths = ["/v1/chat/completions", "/v1/messages", "/v1/responses"]
    wanted = [(path, "on-anthropic") for path in paths]
    assert sorted(asked(branded, "curl", wanted)) == wanted
