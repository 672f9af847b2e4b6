"""Copies of files at vendors: made once, shared, deleted with their files."""

import asyncio
import logging

import pytest

from edge.media.library import Files
from edge.proxy.attachments.vendor_files import KEPT, VendorFiles
from edge.proxy.attachments.vendor_sweep import VendorFileSweeper
from edge.upstreams.provider import Provider
from middlewares.exchange import Dialect
from middlewares.stores.files.base import FileRecord
from middlewares.stores.sql.database import Database
from middlewares.stores.vendor_files.base import VendorFile
from middlewares.stores.vendor_files.sql import SqlVendorFileStore

from .conftest import Clock
from .vendor import Vendor

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 3


def provider_of(vendor: Vendor, dialect: Dialect = "openai", key: bytes = b"sk-1") -> Provider:
    return Provider(
        name="up",
        upstream=vendor,
        dialects=frozenset((dialect,)),
        base_url="https://up.example/v1",
        base_path=b"/v1",
        headers=((b"content-type", b"application/json"), (b"authorization", b"Bearer " + key)),
        secrets=(key.decode(),),
        files=True,
    )


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def outcomes() -> list[str]:
    return []


@pytest.fixture
def copies(files: Files, database: Database, clock: Clock, outcomes: list[str]) -> VendorFiles:
    def counted(upstream: str, outcome: str) -> None:
        assert upstream == "up"
        outcomes.append(outcome)

    return VendorFiles(files, SqlVendorFileStore(database), count=counted, clock=clock)


async def saved(files: Files, owner: str = "alice", data: bytes = PDF) -> FileRecord:
    return await files.save(owner, 'a"b.pdf', data, purpose="user_data", limit=None)


async def test_a_file_is_uploaded_once_for_each_account(
    copies: VendorFiles, files: Files, vendor: Vendor
) -> None:
    record = await saved(files)
    one, other = provider_of(vendor), provider_of(vendor, key=b"sk-2")
    ids = await asyncio.gather(*[copies.copy_of(record, one, "openai") for _ in range(10)])
    assert set(ids) == {"vendor-1"}
    assert await copies.copy_of(record, one, "openai") == "vendor-1"
    assert await copies.copy_of(record, other, "openai") == "vendor-2"
    assert vendor.files == {"vendor-1": PDF, "vendor-2": PDF}
    request = vendor.requests[0]
    assert (request.method, request.target) == (b"POST", b"/v1/files")
    names = [name for name, _ in request.headers]
    assert names.count(b"content-type") == 1
    form = vendor.forms[0]
    assert b'name="purpose"\r\n\r\nuser_data\r\n' in form
    assert b'name="expires_after[seconds]"\r\n\r\n%d\r\n' % KEPT in form
    assert b'filename="a%22b.pdf"\r\nContent-Type: application/pdf\r\n' in form


class _SlowLook(SqlVendorFileStore):
    """Gives the second caller its answer after the first caller's upload has ended."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.slow = False
        self.looked, self.uploaded = asyncio.Event(), asyncio.Event()

    async def find(self, account: str, file_id: str, now: float) -> str | None:
        found = await super().find(account, file_id, now)
        if self.slow:
            self.slow = False
            self.looked.set()
            await self.uploaded.wait()
        return found

    async def add(self, copy: VendorFile, now: float) -> str:
        await self.looked.wait()
        return await super().add(copy, now)


async def test_copy_made_between_the_look_and_the_upload_is_not_uploaded_again(
    files: Files, database: Database, clock: Clock, vendor: Vendor
) -> None:
    store = _SlowLook(database)
    copies = VendorFiles(files, store, clock=clock)
    record, provider = await saved(files), provider_of(vendor)
    first = asyncio.create_task(copies.copy_of(record, provider, "openai"))
    while not vendor.files:
        await asyncio.sleep(0.001)
    store.slow = True
    second = asyncio.create_task(copies.copy_of(record, provider, "openai"))
    assert await first == "vendor-1"
    store.uploaded.set()
    assert await second == "vendor-1"
    assert vendor.files == {"vendor-1": PDF}
    assert len(vendor.forms) == 1


async def test_an_upload_to_anthropic_has_its_fields_and_headers(
    copies: VendorFiles, files: Files, vendor: Vendor
) -> None:
    record = await saved(files)
    assert await copies.copy_of(record, provider_of(vendor, "anthropic"), "anthropic")
    headers = dict(vendor.requests[0].headers)
    assert headers[b"anthropic-version"] == b"2023-06-01"
    assert b'name="expires_in_seconds"\r\n\r\n%d\r\n' % KEPT in vendor.forms[0]
    assert b"purpose" not in vendor.forms[0]


async def test_two_workers_keep_one_copy(
    files: Files, database: Database, clock: Clock, vendor: Vendor
) -> None:
    workers = [VendorFiles(files, SqlVendorFileStore(database), clock=clock) for _ in range(2)]
    record = await saved(files)
    ids = await asyncio.gather(
        *[one.copy_of(record, provider_of(vendor), "openai") for one in workers]
    )
    assert len(set(ids)) == 1
    assert set(vendor.files) == set(ids)  # that of the slower one is deleted


async def test_an_expired_copy_is_made_again(
    copies: VendorFiles, files: Files, vendor: Vendor, clock: Clock
) -> None:
    record, provider = await saved(files), provider_of(vendor)
    assert await copies.copy_of(record, provider, "openai") == "vendor-1"
    clock.now += KEPT - 3000
    assert await copies.copy_of(record, provider, "openai") == "vendor-2"


async def test_a_copy_that_the_vendor_lost_is_made_again_within_ten_minutes(
    copies: VendorFiles, files: Files, vendor: Vendor, clock: Clock, outcomes: list[str]
) -> None:
    record, provider = await saved(files), provider_of(vendor)
    assert await copies.copy_of(record, provider, "openai") == "vendor-1"
    vendor.files.clear()
    assert await copies.copy_of(record, provider, "openai") == "vendor-1"
    assert len(vendor.requests) == 1
    clock.now += 601
    assert await copies.copy_of(record, provider, "openai") == "vendor-2"
    assert outcomes == ["uploaded", "lost", "uploaded"]
    clock.now += 601
    vendor.refuses = 500  # which says nothing of the file
    assert await copies.copy_of(record, provider, "openai") == "vendor-2"


@pytest.mark.parametrize("how", ["refuses", "gone"])
async def test_a_vendor_that_takes_no_file_gives_no_copy(
    copies: VendorFiles,
    files: Files,
    vendor: Vendor,
    how: str,
    caplog: pytest.LogCaptureFixture,
    outcomes: list[str],
) -> None:
    record = await saved(files)
    setattr(vendor, how, 413 if how == "refuses" else True)
    with caplog.at_level(logging.WARNING):
        assert await copies.copy_of(record, provider_of(vendor), "openai") == ""
    assert "sk-1" not in caplog.text
    vendor.refuses, vendor.gone = 0, False
    assert await copies.copy_of(record, provider_of(vendor), "openai") == "vendor-1"
    assert outcomes == ["refused", "uploaded"]


async def test_sweep_deletes_copies_of_files_that_are_gone(
    copies: VendorFiles, files: Files, vendor: Vendor, clock: Clock
) -> None:
    provider = provider_of(vendor)
    kept, deleted = await saved(files), await saved(files)
    expiring = await files.save(
        "alice", "c.pdf", PDF, purpose="user_data", limit=None, expires_at=clock.now + 10
    )
    for record in (kept, deleted, expiring):
        await copies.copy_of(record, provider, "openai")
    assert await copies.sweep({"up": provider}) == 0
    assert await files.delete("alice", deleted.id)
    clock.now += 11
    assert await copies.sweep({"other": provider_of(vendor, key=b"sk-2")}) == 0
    vendor.gone = True
    assert await copies.sweep({"up": provider}) == 0
    vendor.gone = False
    assert await copies.sweep({"up": provider}) == 2
    assert await copies.sweep({"up": provider}) == 0
    assert set(vendor.files) == {"vendor-1"}


async def test_sweep_forgets_copies_that_no_configured_account_has(
    copies: VendorFiles, files: Files, vendor: Vendor, clock: Clock
) -> None:
    record = await saved(files)
    await copies.copy_of(record, provider_of(vendor), "openai")
    clock.now += 3 * KEPT
    await copies.sweep({})
    clock.now -= 3 * KEPT
    assert await copies.copy_of(record, provider_of(vendor), "openai") == "vendor-2"


async def test_the_sweeper_sweeps_with_the_newest_providers(
    copies: VendorFiles, files: Files, vendor: Vendor
) -> None:
    record, provider = await saved(files), provider_of(vendor)
    await copies.copy_of(record, provider, "openai")
    await files.delete("alice", record.id)
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(_seconds: float) -> None:
        await turns.get()

    sweeper = VendorFileSweeper(copies, sleep=sleep)
    sweeper.start()
    sweeper.providers = {"up": provider}
    for _ in range(2):
        turns.put_nowait(None)
    while vendor.files:
        await asyncio.sleep(0)
    await sweeper.aclose()
