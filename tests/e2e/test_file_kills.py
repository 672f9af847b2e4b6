"""kill -9 at every point of upload and deletion: afterwards rows, objects and counters agree."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.media.objects import Objects
from middlewares.stores.sql.database import Database
from tests.edge.media.s3_servers import BUCKET, S3Server, seaweed
from tests.edge.media.stored import check_balance

from .conftest import SECRETS
from .kill_points import DELETE, UPLOAD, arm, armed, environment_of
from .program import DEADLINE, Gateway, until

MIB = 1 << 20
DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"]}],
    "files": {"sweep_interval": "500ms"},
}


@pytest.fixture
def bucket() -> Iterator[S3Server]:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    server = seaweed(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_kills_at_every_point_of_a_folder(tmp_path: Path, full: bool) -> None:
    """In small every other point: each costs the start of a worker."""
    store = {"objects": f"file:{tmp_path}/objects"}
    points = (UPLOAD, DELETE) if full else (UPLOAD[1::2], DELETE[::2])
    _kill_at_every_point(tmp_path, store, Objects(store["objects"]), *points)


@pytest.mark.full
def test_kills_at_every_point_of_a_bucket(tmp_path: Path, bucket: S3Server) -> None:
    store = {
        "objects": f"s3://{BUCKET}/files",
        "objects_endpoint": bucket.url,
        "objects_region": "us-east-1",
        "objects_access_key": bucket.options["access_key_id"],
        "objects_secret_key": bucket.options["secret_access_key"],
    }
    objects = Objects(store["objects"], bucket.options)
    _kill_at_every_point(tmp_path, store, objects, UPLOAD, DELETE)


def _kill_at_every_point(
    folder: Path,
    store: dict[str, str],
    objects: Objects,
    uploads: Sequence[str],
    deletions: Sequence[str],
) -> None:
    gateway = Gateway(
        folder, {**DOCUMENT, "store": store}, env={**SECRETS, **environment_of(folder)}
    )
    try:
        url, bearer = gateway.url, gateway.bearer
        kept = _upload(url, bearer)
        assert kept is not None
        expected = {kept}
        for point in uploads:
            arm(folder, point)
            assert _upload(url, bearer) is None, f"no worker died at {point}"
            while armed(folder):  # a new worker was not there yet
                assert _upload(url, bearer) is None
            expected = _settled(gateway, objects, expected, ready=point == "finish:after")
        for point in deletions:
            victim = until(lambda: _upload(url, bearer), what="a new worker")
            arm(folder, point)
            _delete(url, bearer, victim)
            assert not armed(folder), f"no worker died at {point}"
            expected = _settled(gateway, objects, expected)
        last = until(lambda: _upload(url, bearer), what="a new worker")
        expected = _settled(gateway, objects, {*expected, last})
        with httpx.Client(base_url=url, headers=bearer, trust_env=False) as client:
            listed = client.get("/v1/files")
            assert {one["id"] for one in listed.json()["data"]} == expected
            assert listed.headers["x-storage-used-bytes"] == str(5 * MIB * len(expected))
    finally:
        assert gateway.stop() == 0, gateway.stderr


def _upload(url: str, bearer: dict[str, str]) -> str | None:
    """The id of a new file; None when the worker died."""
    with httpx.Client(base_url=url, headers=bearer, trust_env=False, timeout=DEADLINE) as client:
        try:
            made = client.post(
                "/v1/files",
                data={"purpose": "user_data"},
                files={"file": ("a", bytes(5 * MIB))},
            )
        except httpx.TransportError:
            return None
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


def _delete(url: str, bearer: dict[str, str], file_id: str) -> None:
    with (
        httpx.Client(base_url=url, headers=bearer, trust_env=False, timeout=DEADLINE) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.delete(f"/v1/files/{file_id}")


def _settled(
    gateway: Gateway, objects: Objects, before: set[str], *, ready: bool = False
) -> set[str]:
    """Wait for the sweep. Assert that rows, objects and counters agree, and that all files before
    are left, and one more where a file was ready. Returns the ids of the files."""

    def only_ready() -> bool:
        with closing(sqlite3.connect(gateway.database)) as connection:
            (unready,) = connection.execute(
                "SELECT COUNT(*) FROM files WHERE state <> 'ready'"
            ).fetchone()
        return not unready

    until(only_ready, what="the end of the sweep")

    async def check() -> set[str]:
        database = await Database.open(gateway.sql, create=False)
        try:
            return await check_balance(database, objects)
        finally:
            await database.aclose()

    found = {key.rpartition("/")[2] for key in asyncio.run(check())}
    assert before <= found and len(found) == len(before) + ready
    return found
