"""Pages of holders on the real program: their keys, files and jobs."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .conftest import SECRETS
from .job_caller import Caller
from .job_vendor import MP4, JobVendor, job_vendor
from .program import DEADLINE, Gateway, until

SECRET = re.compile(r"sk-[a-z0-9-]+-live-[0-9A-Za-z]{43}")


def document(vendor: JobVendor) -> dict[str, Any]:
    port = int(vendor.url.rpartition(":")[2])
    one = {"dialect": "openai", "base_url": f"{vendor.url}/v1", "api_key": "env:UPSTREAM_KEY"}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "dashboard": {"self_service": True},
        "plans": [
            {"id": "paid", "storage": "64MiB", "windows": [{"length": "5h", "credits": "9"}]}
        ],
        "fetch": {"allow_http": True, "ports": [port], "allowed_networks": ["127.0.0.0/8"]},
        "jobs": {"first_poll": "50ms", "longest_poll": "100ms", "max_result": "1MiB"},
        "upstreams": [{"name": "quarry", **one}],
        "models": [
            {
                "id": "clip",
                "targets": ["quarry/secret-model-9"],
                "price": {"job": "0.10", "second": "0.05"},
            }
        ],
    }


@pytest.fixture(scope="module")
def vendor() -> Iterator[JobVendor]:
    with job_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def home(vendor: JobVendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("pages"), document(vendor), env=SECRETS)
    try:
        yield gateway
        assert gateway.stop() == 0, gateway.stderr
    finally:
        gateway.kill()


class Visitor:
    """A browser that has signed in by key. Each request is on a connection of its own."""

    def __init__(self, gateway: Gateway, secret: str) -> None:
        self._url = gateway.url
        self._cookie = ""
        answer = self.post("/app/sign-in", key=secret)
        assert answer.status_code == 303, answer.text

    def get(self, path: str) -> httpx.Response:
        return self._send("GET", path)

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self._send("POST", path, data=fields)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"sec-fetch-site": "same-origin", "cookie": self._cookie}
        answer = httpx.request(
            method,
            self._url + path,
            headers=headers,
            trust_env=False,
            timeout=DEADLINE,
            **options,
        )
        for text in answer.headers.get_list("set-cookie"):
            self._cookie = text.partition(";")[0]
        return answer


def value(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return found[1]


def chat(gateway: Gateway, secret: str) -> int:
    answer = httpx.get(
        f"{gateway.url}/v1/models",
        headers={"authorization": f"Bearer {secret}"},
        trust_env=False,
        timeout=DEADLINE,
    )
    return answer.status_code


def test_holder_creates_rotates_and_revokes_a_key(home: Gateway) -> None:
    first = home.new_key("ann", owner="ann", plan="paid")
    visitor = Visitor(home, first)
    form = visitor.get("/app/api-keys/new")
    made = visitor.post(
        "/app/api-keys", name="laptop", form=value(form, "form"), parent=value(form, "parent")
    )
    (secret,) = set(SECRET.findall(made.text))
    until(lambda: chat(home, secret) == 200, what="the new key")
    (path,) = set(re.findall(r'href="(/app/api-keys/key_[0-9a-z]{20})">Done', made.text))
    page = visitor.get(path)
    assert secret not in page.text and "paid" in page.text
    turned = visitor.post(f"{path}/rotate", grace="0", revision=value(page, "revision"))
    (second,) = set(SECRET.findall(turned.text))
    until(lambda: chat(home, secret) == 401, what="the old secret to be refused")
    assert chat(home, second) == 200
    child = Visitor(home, second)
    assert visitor.post(f"{path}/revoke", confirm="laptop").status_code == 303
    until(lambda: chat(home, second) == 401, what="the revocation")
    until(lambda: child.get("/app/api-keys").status_code == 303, what="the session to end")
    assert visitor.get("/app/api-keys").text.count("laptop") == 1
    log = home.whole_log()
    for text in (secret, second):
        assert text not in log
        assert text.encode() not in home.database.read_bytes()


def test_holder_downloads_and_deletes_files(home: Gateway) -> None:
    secret, other = (home.new_key(name, owner=name, plan="paid") for name in ("fay", "guy"))
    content = b"a,b\n1,2\n" * 100
    uploaded = httpx.post(
        f"{home.url}/v1/files",
        headers={"authorization": f"Bearer {secret}"},
        data={"purpose": "user_data"},
        files={"file": ("sums <b>.csv", content)},
        trust_env=False,
        timeout=DEADLINE,
    )
    file_id = uploaded.json()["id"]
    visitor, stranger = Visitor(home, secret), Visitor(home, other)
    page = visitor.get("/app/files")
    assert file_id in page.text and "<b>.csv" not in page.text
    assert "800 B" in page.text and "64.0 MiB" in page.text
    found = visitor.get(f"/app/files/{file_id}/content")
    assert (found.status_code, found.content) == (200, content)
    assert found.headers["content-disposition"].startswith("attachment")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "no-store"

    assert file_id not in stranger.get("/app/files").text
    mine = re.findall(r"key_[0-9a-z]{20}", visitor.get("/app/api-keys").text)[0]
    for asked in (file_id, "file-" + "x" * 27):
        for query in ("", f"?key={mine}"):
            assert stranger.get(f"/app/files/{asked}/content{query}").status_code == 404
            assert stranger.get(f"/app/files/{asked}/delete{query}").status_code == 404
            assert stranger.post(f"/app/files/{asked}/delete{query}").status_code == 404
    assert stranger.get(f"/app/files?after={file_id}").status_code == 200

    assert file_id in visitor.get(f"/app/files/{file_id}/delete").text
    assert visitor.get(f"/app/files/{file_id}/content").status_code == 200
    assert visitor.post(f"/app/files/{file_id}/delete").status_code == 303
    assert visitor.get(f"/app/files/{file_id}/content").status_code == 404
    assert file_id not in visitor.get("/app/files").text


async def test_holder_sees_filters_and_cancels_jobs(home: Gateway, vendor: JobVendor) -> None:
    caller, other = Caller(home, "paid", owner="joe"), Caller(home, "paid", owner="kim")
    done = await caller.create("a secret mill", seconds=4)
    await caller.ended(done["poll_url"])
    running = await caller.create("[refuse=503]")
    visitor, stranger = await asyncio.to_thread(
        lambda: (Visitor(home, caller.key), Visitor(home, other.key))
    )

    async def page(query: str = "") -> str:
        return (await asyncio.to_thread(visitor.get, f"/app/jobs{query}")).text

    text = await page()
    assert done["id"] in text and running["id"] in text and "0.30" in text
    assert not [word for word in ("secret-model-9", "secret mill", "quarry") if word in text]
    assert "reserved" in text
    text = await page("?state=succeeded&kind=video")
    assert done["id"] in text and running["id"] not in text
    assert done["id"] not in await page("?kind=music")
    (path,) = set(re.findall(r'href="(/app/files/[^"]+/content)"', await page()))
    content = await asyncio.to_thread(visitor.get, path)
    assert content.content.startswith(MP4)

    for job_id in (running["id"], "video_" + "x" * 27):
        answer = await asyncio.to_thread(stranger.post, f"/app/jobs/{job_id}/cancel")
        assert answer.status_code == 404
    assert running["id"] not in (await asyncio.to_thread(stranger.get, "/app/jobs")).text
    answer = await asyncio.to_thread(visitor.post, f"/app/jobs/{running['id']}/cancel")
    assert answer.status_code == 303
    ended = await caller.ended(running["poll_url"])
    assert ended["status"] == "cancelled"
    assert "Cancel</button>" not in await page()
    assert (await asyncio.to_thread(visitor.get, "/app/jobs?state=odd")).status_code == 400
    await caller.http.aclose()
    await other.http.aclose()


def test_key_that_may_do_less_reads_and_deletes_no_file_of_a_wider_one(home: Gateway) -> None:
    wide, narrow = (
        home.new_key(name, owner="lea", plan="paid", **more)
        for name, more in (("wide", {}), ("narrow", {"limits": {"concurrency": 1}}))
    )
    uploaded = httpx.post(
        f"{home.url}/v1/files",
        headers={"authorization": f"Bearer {wide}"},
        data={"purpose": "user_data"},
        files={"file": ("sums.csv", b"a,b")},
        trust_env=False,
        timeout=DEADLINE,
    )
    file_id = uploaded.json()["id"]
    visitor = Visitor(home, narrow)
    rows = home.run("keys", "list", "--json")
    (key_id,) = (one["id"] for one in json.loads(rows) if one["name"] == "wide")
    listed = visitor.get(f"/app/files?key={key_id}")
    assert file_id in listed.text and "Download" not in listed.text
    for method, path in (
        ("GET", f"/app/files/{file_id}/content"),
        ("GET", f"/app/files/{file_id}/delete"),
        ("POST", f"/app/files/{file_id}/delete"),
        ("POST", "/app/jobs/video_1/cancel"),
    ):
        ask = visitor.get if method == "GET" else visitor.post
        assert ask(f"{path}?key={key_id}").status_code == 403, path
    assert Visitor(home, wide).get(f"/app/files/{file_id}/content").content == b"a,b"
