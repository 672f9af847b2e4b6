"""Stored objects: a folder of this machine, or a bucket of S3, Google Cloud or Azure.

An object is written as a stream of unknown length and read as a stream of a range. Neither is ever
whole in memory: a writer holds two pieces at most, and a reader one.

Writing is atomic. A folder shows an object when its file is renamed; a bucket when its multipart
upload is completed. What a killed process leaves behind is a file `KEY#N` of a folder, which
`remove` deletes with the object, or the parts of a multipart upload, which no listing shows: a
bucket needs a rule that aborts incomplete multipart uploads.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from middlewares.shared import Shared
from middlewares.stores.errors import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PIECE = 256 << 10
"""Bytes that a reader gets at a time."""
_FOLDER_PIECE = 1 << 20
_BUCKET_PIECE = 5 << 20
"""The least bytes of a part in S3; 10,000 parts make 48 GiB."""
WRITERS = 128, 32
"""Most objects that a process writes to a folder at once, and of one owner; each holds two pieces
in memory. Further ones wait."""
BUCKET_WRITERS = 32, 8
"""The same for a bucket."""
PATIENCE = 60.0
"""Seconds for one step of a stream."""
SCHEMES = ("file", "s3", "gs", "az")


class Writer(Protocol):
    """An object being written."""

    async def write(self, data: bytes) -> None:
        """Add bytes. Raises StoreUnavailable."""
        ...


class Objects(Shared):
    """Objects by key, under one location. Every method may raise StoreUnavailable.

    location: "file:PATH" or the URL of a bucket, as in `store.objects`. options: of the client of
    a bucket, such as `endpoint` and `access_key_id`; what is not given comes from the environment.
    """

    def __init__(self, location: str, options: Mapping[str, str] | None = None) -> None:
        scheme, _, path = location.partition(":")
        if scheme not in SCHEMES:
            raise ValueError(f'store.objects: expected one of {", ".join(SCHEMES)}, as in "s3://…"')
        self._location = location
        self._options = dict(options or {})
        self._folder = Path(path) if scheme == "file" else None
        self._piece = _BUCKET_PIECE if self._folder is None else _FOLDER_PIECE
        self._writers = _Turns(*(BUCKET_WRITERS if self._folder is None else WRITERS))
        self._opened: ObjectStore | None = None

    @property
    def folder(self) -> Path | None:
        """The folder in which objects are; None for a bucket."""
        return self._folder

    @asynccontextmanager
    async def writing(self, key: str, owner: str = "") -> AsyncIterator[Writer]:
        """Write the object `key`, which exists when the block has ended without an exception. After
        an exception nothing of it is left. owner: whose turn it is, where many write at once."""
        from obstore import open_writer_async

        store = await self._store()
        async with self._writers.turn(owner):
            async with _failures():
                writer = open_writer_async(store, key, buffer_size=self._piece, max_concurrency=1)
                opened = await writer.__aenter__()
            try:
                yield _Writer(opened)
            except BaseException as raised:  # aborts, so that nothing is left of it
                with suppress(Exception):
                    await writer.__aexit__(type(raised), raised, raised.__traceback__)
                raise
            async with _failures(), asyncio.timeout(PATIENCE):
                await writer.__aexit__(None, None, None)

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`. Raises FileNotFoundError."""
        from obstore import get_async

        if start >= end:
            return
        store = await self._store()
        async with _failures():
            async with asyncio.timeout(PATIENCE):
                found = await get_async(store, key, options={"range": (start, end)})
            pieces = aiter(found.stream(min_chunk_size=PIECE))
            while True:
                try:
                    async with asyncio.timeout(PATIENCE):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                yield bytes(piece)

    async def remove(self, key: str) -> None:
        """Remove an object and what an interrupted writer left of it. It need not exist."""
        from obstore import delete_async

        store = await self._store()
        async with _failures(), asyncio.timeout(PATIENCE):
            with suppress(FileNotFoundError):
                await delete_async(store, key)
            if self._folder is not None:
                await asyncio.to_thread(_remove_staged, self._folder / key)

    async def all_keys(self) -> AsyncIterator[str]:
        """The key of each object, in no order."""
        from obstore import list as list_objects

        store = await self._store()
        async with _failures():
            async for page in list_objects(store, chunk_size=1000):
                for one in page:
                    yield one["path"]

    async def check(self) -> None:
        """Write, read and remove a small object. Raises StoreUnavailable."""
        key = f"check/{os.urandom(8).hex()}"
        async with self.writing(key) as writer:
            await writer.write(b"penstock")
        try:
            async for _ in self.read(key, 0, 8):
                pass
        except FileNotFoundError as raised:
            raise StoreUnavailable("an object that was written is not there") from raised
        finally:
            await self.remove(key)

    async def _store(self) -> "ObjectStore":
        if self._opened is None:
            async with _failures():
                self._opened = await asyncio.to_thread(self._open)
        return self._opened

    def _open(self) -> "ObjectStore":
        from obstore.store import LocalStore, from_url

        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalStore(self._folder, mkdir=True)
        options = {name: value for name, value in self._options.items() if value}
        opened: Any = from_url  # its options differ by kind of bucket
        store: ObjectStore = opened(
            self._location,
            config=options,
            client_options={
                "allow_http": options.get("endpoint", "").startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=PATIENCE),
                "timeout": timedelta(days=1),  # of a whole download, which a client may slow down
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )
        return store


class _Turns:
    """Bounds how many write at once, in all and for each owner: one that starts many slow uploads
    does not keep others from theirs."""

    __slots__ = ("_all", "_each", "_owners")

    def __init__(self, total: int, each: int) -> None:
        self._all = asyncio.Semaphore(total)
        self._each = each
        self._owners: dict[str, tuple[asyncio.Semaphore, list[object]]] = {}

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place, and keep it while the block runs."""
        mark = object()
        own, users = self._owners.setdefault(owner, (asyncio.Semaphore(self._each), []))
        users.append(mark)
        try:
            async with own, self._all:
                yield
        finally:
            users.remove(mark)
            if not users:
                del self._owners[owner]


class _Writer:
    """The writer of obstore, with its failures as StoreUnavailable and a bound on its time."""

    __slots__ = ("_opened",)

    def __init__(self, opened: object) -> None:
        self._opened = opened

    async def write(self, data: bytes) -> None:
        async with _failures(), asyncio.timeout(PATIENCE):
            await self._opened.write(data)  # type: ignore[attr-defined]


@asynccontextmanager
async def _failures() -> AsyncIterator[None]:
    """Raise what the object store raises as StoreUnavailable, without paths and addresses."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (StoreUnavailable, FileNotFoundError):
        raise
    except (BaseError, OSError) as raised:
        what = getattr(raised, "strerror", None) or type(raised).__name__
        raise StoreUnavailable(f"objects: {what}") from raised


def _remove_staged(path: Path) -> None:
    try:
        entries = list(os.scandir(path.parent))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith(f"{path.name}#"):
            Path(entry.path).unlink(missing_ok=True)
