"""Guesses are limited before anything is computed for them."""

import asyncio
from threading import Event

import pytest

from edge.dashboard.pages.sign_in import WRONG_KEY
from edge.dashboard.sessions import passwords
from edge.dashboard.sessions.password_hash import matches, new_hash
from edge.management import keys as management
from middlewares.problem import Problem
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import PASSWORD, PREFIXES, Site

HASH = new_hash(PASSWORD)
ADMIN = {"dashboard": {"admin_password": "env:ADMIN"}}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed."""
    seen: list[str] = []

    def counted(hash_: str, password: str) -> bool:
        seen.append(password)
        return matches(hash_, password)

    monkeypatch.setattr(passwords, "compare", counted)
    return seen


async def test_five_hundred_guesses_cost_few_hashes_and_lock_no_one_out(
    open_site: OpenSite, hashed: list[str]
) -> None:
    site = await open_site({"ADMIN": HASH}, **ADMIN)
    for n in range(500):
        browser = site.browser(client=f"10.0.{n % 250}.{n // 250}")
        answer = await browser.post("/app/sign-in/password", password=f"guess number {n}")
        assert answer.status == (401 if n < 60 else 429), n
        assert answer.status == 401 or int(str(answer.header("retry-after"))) >= 1
    assert len(hashed) <= 70
    site.clock.now += 2
    answer = await site.browser().post("/app/sign-in/password", password=PASSWORD)
    assert answer.status == 303


async def test_one_address_has_few_guesses_and_takes_none_from_others(site: Site) -> None:
    browser = site.browser(client="192.0.2.7")
    statuses = [
        (await browser.post("/app/sign-in", key=f"sk-acme-live-{n}")).status for n in range(40)
    ]
    assert statuses.count(401) == 15
    assert statuses.count(429) == 25
    assert (
        await site.browser(client="192.0.2.8").post("/app/sign-in", key=site.secret)
    ).status == 303
    labels = {"how": "key", "result": "throttled"}
    counted = site.parts.metrics.registry.get_sample_value("penstock_sign_ins_total", labels)
    assert counted == 25


async def test_right_keys_use_up_no_attempts(site: Site) -> None:
    for _ in range(70):
        await site.signed_in()
    browser = site.browser()
    statuses = [(await browser.post("/app/sign-in", key="x" * 40)).status for _ in range(16)]
    assert statuses == [401] * 15 + [429]


async def test_addresses_of_one_ipv6_network_count_together(site: Site) -> None:
    statuses = [
        (await site.browser(client=f"2001:db8::{n:x}").post("/app/sign-in", key="x" * 40)).status
        for n in range(1, 20)
    ]
    assert statuses.count(401) == 15


async def test_unknown_revoked_and_malformed_keys_get_one_answer(site: Site) -> None:
    revoked, secret = await management.create(site.keys, PREFIXES, now=site.clock(), name="r")
    await management.revoke(site.keys, revoked.id, now=site.clock())
    answers = [
        await site.browser().post("/app/sign-in", key=key)
        for key in (secret, "sk-acme-live-" + "0" * 43, "nonsense", "", "ü" * 40, "a\x00b")
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert WRONG_KEY in answers[0].text


async def test_passwords_are_checked_one_at_a_time_with_few_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, running, most = Event(), 0, 0

    def slow(hash_: str, password: str) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        go.wait(60)
        running -= 1
        return True

    monkeypatch.setattr(passwords, "compare", slow)
    check = passwords.PasswordCheck()
    tasks = [asyncio.create_task(check.matches("h", "p")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refused:
        await check.matches("h", "p")
    assert refused.value.kind == "rate_limited"
    go.set()
    assert await asyncio.gather(*tasks) == [True] * 5
    assert most == 1
    assert await check.matches("h", "p")


async def test_attempts_are_logged_without_what_was_typed(
    open_site: OpenSite, capsys: pytest.CaptureFixture[str]
) -> None:
    site = await open_site({"ADMIN": HASH}, **ADMIN)
    await site.browser().post("/app/sign-in", key="sk-typed-wrongly-0123456789")
    await site.browser().post("/app/sign-in", key=site.secret)
    await site.browser().post("/app/sign-in/password", password="typed-wrongly-too")
    said = capsys.readouterr()
    text = said.out + said.err
    assert text.count("sign-in") == 3
    assert site.key.id in text
    for typed in ("typed-wrongly", site.secret, HASH):
        assert typed not in text
