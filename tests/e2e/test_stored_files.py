"""Files on a real process: both vendors' SDKs, ranges, headers, quotas, links and two tenants."""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import unquote

import anthropic
import httpx
import openai
import pytest

from .conftest import SECRETS
from .program import DEADLINE, Gateway

MIB = 1 << 20
DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"]}],
    "plans": [{"id": "small", "storage": "20MiB"}],
    "files": {"max_size": "16MiB", "max_upload_size": "200MiB", "sweep_interval": "1s"},
}
ANTHROPIC = {"anthropic-version": "2026-10-21"}
ID = re.compile(r"file-[0-9A-Za-z]{27}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program = Gateway(tmp_path_factory.mktemp("files"), DOCUMENT, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


class Tenant:
    """A key with clients of its own."""

    def __init__(self, gateway: Gateway, name: str, **options: str) -> None:
        self.key = gateway.new_key(name, **options)
        self.http = httpx.Client(
            base_url=gateway.url,
            headers={"authorization": f"Bearer {self.key}"},
            trust_env=False,
            timeout=DEADLINE,
        )
        self.openai = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=self.key, max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=gateway.url, api_key=self.key, max_retries=0)

    def close(self) -> None:
        self.http.close()
        self.openai.close()
        self.anthropic.close()

    def upload(self, content: bytes, name: str = "a.bin", **fields: str) -> httpx.Response:
        return self.http.post(
            "/v1/files",
            data={"purpose": "user_data", **fields},
            files={"file": (name, content, "application/octet-stream")},
        )

    def used(self) -> int:
        return int(self.http.get("/v1/files?limit=1").headers["x-storage-used-bytes"])


@pytest.fixture
def tenant(gateway: Gateway) -> Iterator[Tenant]:
    with closing(Tenant(gateway, "tenant")) as made:
        yield made


@pytest.fixture
def stranger(gateway: Gateway) -> Iterator[Tenant]:
    with closing(Tenant(gateway, "stranger")) as made:
        yield made


@pytest.fixture
def poor(gateway: Gateway) -> Iterator[Tenant]:
    with closing(Tenant(gateway, "poor", plan="small")) as made:
        yield made


def test_openai_sdk_uploads_lists_reads_and_deletes(tenant: Tenant) -> None:
    client = tenant.openai
    content = bytes(range(256)) * 3 * 100
    made = client.files.create(file=("report.pdf", content), purpose="assistants")
    assert ID.fullmatch(made.id) and made.status == "processed"
    assert (made.bytes, made.filename, made.purpose) == (len(content), "report.pdf", "assistants")
    assert made.expires_at is None
    assert client.files.wait_for_processing(made.id, max_wait_seconds=5).id == made.id
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    plain = client.files.create(file=b"plain bytes", purpose="user_data")
    assert plain.filename == "upload"
    kept = client.files.create(
        file=io.BytesIO(b"x"),
        purpose="user_data",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert kept.expires_at == kept.created_at + 3600
    batch = client.files.create(file=b"{}", purpose="batch")
    assert batch.expires_at == batch.created_at + 30 * 86400
    assert [one.id for one in client.files.list()] == [batch.id, kept.id, plain.id, made.id]
    assert [one.id for one in client.files.list(order="asc", limit=2, after=made.id)] == [
        plain.id,
        kept.id,
        batch.id,
    ]
    assert [one.id for one in client.files.list(purpose="batch")] == [batch.id]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.delete(made.id)


def test_anthropic_sdk_uploads_lists_reads_and_deletes(tenant: Tenant) -> None:
    client = tenant.anthropic
    png = b"\x89PNG\r\n\x1a\n" + os.urandom(500)
    made = client.files.upload(file=("dir/shot.bin", png), expires_in_seconds=3600)
    assert ID.fullmatch(made.id) and made.type == "file"
    assert (made.filename, made.mime_type, made.size_bytes) == ("shot.bin", "image/png", len(png))
    assert made.downloadable and made.expires_at is not None
    assert (made.expires_at - made.created_at).total_seconds() == 3600
    assert client.files.retrieve_metadata(made.id) == made
    assert client.files.download(made.id).read() == png
    other = client.files.upload(file=b"text")
    assert other.filename == "unnamed.txt" and other.expires_at is None
    assert [one.id for one in client.files.list(limit=1)] == [other.id, made.id]
    chosen = client.files.list(ids=[made.id, "file-unknown"])
    assert [one.id for one in chosen.data] == [made.id] and chosen.next_page is None
    # The same files in the other dialect.
    assert tenant.openai.files.retrieve(made.id).filename == "shot.bin"
    assert client.files.delete(made.id).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.files.retrieve_metadata(made.id)


def test_upload_takes_the_file_before_between_and_behind_the_fields(tenant: Tenant) -> None:
    file = (
        'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello',
        'Content-Disposition: form-data; name="purpose"\r\n\r\nvision',
        'Content-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n7200',
    )
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        parts = "".join(f"--B\r\n{file[n]}\r\n" for n in order)
        answer = tenant.http.post(
            "/v1/files",
            content=f"{parts}--B--\r\n".encode(),
            headers={"content-type": "multipart/form-data; boundary=B"},
        )
        found = answer.json()
        assert answer.status_code == 200, found
        assert found["purpose"] == "vision"
        assert found["expires_at"] - found["created_at"] == 7200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "other"}, "purpose"),
        ({"expires_after[seconds]": "60"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "now"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
    ],
)
def test_upload_wrong_fields_are_named_and_leave_nothing(
    tenant: Tenant, fields: dict[str, str], param: str
) -> None:
    refused = tenant.upload(b"abc", **fields)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param
    assert refused.headers["x-storage-used-bytes"] == "0"
    assert refused.headers["x-storage-limit-bytes"] == str(10 << 30)


def test_upload_empty_missing_double_and_large_files_are_refused(tenant: Tenant) -> None:
    post = tenant.http.post
    assert tenant.upload(b"").json()["error"]["param"] == "file"
    text = post("/v1/files", files={"purpose": (None, "user_data"), "other": (None, "x")})
    assert (text.status_code, text.json()["error"]["param"]) == (400, "file")
    wrong = post("/v1/files", files={"purpose": (None, "user_data"), "image": ("a", b"x")})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "image")
    twice = post(
        "/v1/files",
        files=[("purpose", (None, "user_data")), ("file", ("a", b"x")), ("file", ("b", b"y"))],
    )
    assert (twice.status_code, twice.json()["error"]["param"]) == (400, "file")
    large = tenant.upload(bytes(16 * MIB + 1))
    assert large.status_code == 413
    assert f"larger than {16 * MIB} bytes" in large.json()["error"]["message"]
    for purpose in ("x" * 65536, "a\0b"):
        form = {"purpose": purpose}
        odd = post("/v1/files", files={"file": ("a", b"x")}, data=form, headers=ANTHROPIC)
        assert (odd.status_code, "`purpose`" in odd.text) == (400, True)
    json_body = post("/v1/files", json={"purpose": "user_data"})
    assert json_body.status_code == 415
    assert "multipart/form-data" in json_body.json()["error"]["message"]
    assert tenant.used() == 0


def test_content_whole_ranges_and_conditions(tenant: Tenant) -> None:
    content = os.urandom(MIB + 3)
    file_id = tenant.upload(content).json()["id"]
    url = f"/v1/files/{file_id}/content"
    get = tenant.http.get
    whole = get(url, headers={"accept-encoding": "gzip", "accept": "application/binary"})
    assert whole.content == content and "content-encoding" not in whole.headers
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    assert whole.headers["etag"] == etag
    assert whole.headers["content-length"] == str(len(content))
    head = tenant.http.head(url)
    assert head.content == b""
    for name in ("etag", "content-length", "content-type", "content-disposition"):
        assert head.headers[name] == whole.headers[name]
    for given, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-1000004", 5, 1_000_005),
        (f"bytes={MIB}-", MIB, len(content)),
        ("bytes=-7", len(content) - 7, len(content)),
        ("bytes=10-99999999", 10, len(content)),
        ("bytes=-99999999", 0, len(content)),
    ):
        part = get(url, headers={"range": given})
        assert part.status_code == 206 and part.content == content[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"
    for given in ("bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=1-2", "bytes=a-b"):
        assert get(url, headers={"range": given}).status_code == 200
    for given in (f"bytes={len(content)}-", "bytes=-0"):
        beyond = get(url, headers={"range": given})
        assert beyond.status_code == 416
        assert beyond.headers["content-range"] == f"bytes */{len(content)}"
    for given in (etag, f'"x", W/{etag}', "*"):
        same = get(url, headers={"if-none-match": given})
        assert same.status_code == 304 and same.content == b""
    assert get(url, headers={"if-none-match": '"x"'}).status_code == 200
    assert get(url, headers={"range": "bytes=0-0", "if-range": etag}).status_code == 206
    assert get(url, headers={"range": "bytes=0-0", "if-range": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    ("content", "served"),
    [
        (b"<html><script>alert(document.domain)</script>", "text/plain; charset=utf-8"),
        (
            b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
            "text/plain; charset=utf-8",
        ),
        (b"GIF89a/*<script>alert(1)</script>*/=1", "image/gif"),
        (b"PK\x03\x04" + bytes(40), "application/octet-stream"),
    ],
)
def test_content_is_nothing_that_a_browser_runs(
    tenant: Tenant, content: bytes, served: str
) -> None:
    made = tenant.http.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": ("x.html", content, "text/html")}
    ).json()
    headers = tenant.http.get(f"/v1/files/{made['id']}/content").headers
    assert headers["content-type"] == served
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["cache-control"] == "private, no-store"
    assert headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("日本語.pdf", "日本語.pdf"),
        ('a"b\r\nx: y', 'a"bx: y'),
        ("../../x", "x"),
        ("100%22.txt", None),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_filename_is_stored_listed_and_downloaded(
    tenant: Tenant, given: str, kept: str | None
) -> None:
    made = tenant.openai.files.create(file=(given, b"abc"), purpose="user_data")
    if kept is not None:
        assert made.filename == kept
    assert [one.filename for one in tenant.openai.files.list()] == [made.filename]
    headers = tenant.http.get(f"/v1/files/{made.id}/content").headers
    assert "x" not in headers
    extended = headers["content-disposition"].partition("filename*=UTF-8''")[2]
    assert unquote(extended) == made.filename


def test_two_tenants_over_every_verb_answer_as_for_an_unknown_id(
    tenant: Tenant, stranger: Tenant
) -> None:
    file_id = tenant.upload(b"secret").json()["id"]
    upload_id = tenant.openai.uploads.create(
        bytes=3, filename="a", mime_type="text/plain", purpose="user_data"
    ).id
    part_id = tenant.openai.uploads.parts.create(upload_id, data=b"abc").id
    unknown = {file_id: "file-" + "x" * 27, upload_id: "upload_" + "x" * 27}
    requests: list[tuple[str, str, dict[str, str], Any]] = [
        (method, f"/v1/files/{file_id}{tail}", headers, None)
        for headers in ({}, ANTHROPIC)
        for method in ("GET", "HEAD", "DELETE")
        for tail in ("", "/content")
        if (method, tail) != ("DELETE", "/content")
    ]
    requests += [
        ("GET", f"/v1/files?after={file_id}", {}, None),
        ("GET", f"/v1/files?ids[]={file_id}", ANTHROPIC, None),
        ("GET", f"/v1/files?after_id={file_id}", ANTHROPIC, None),
        ("GET", f"/v1/files?before_id={file_id}", ANTHROPIC, None),
        ("POST", f"/v1/uploads/{upload_id}/complete", {}, {"part_ids": [part_id]}),
        ("POST", f"/v1/uploads/{upload_id}/cancel", {}, None),
        ("GET", f"/v1/links/{file_id}?exp=99999999999&sig=x", {}, None),
    ]

    def shape(answer: httpx.Response, name: str) -> tuple[Any, ...]:
        body = answer.content.replace(name.encode(), b"ID")
        if answer.headers.get("content-type") == "application/json" and body:
            body = re.sub(rb'"request_id": ?"[^"]*"', b"", body)
        changing = {"x-request-id", "request-id", "date", "server-timing", "content-length"}
        headers = {k: v for k, v in answer.headers.items() if k not in changing}
        return answer.status_code, headers, body

    for method, url, headers, body in requests:
        real = next(name for name in unknown if name in url)
        foreign = stranger.http.request(method, url, headers=headers, json=body)
        missing = stranger.http.request(
            method, url.replace(real, unknown[real]), headers=headers, json=body
        )
        assert shape(foreign, real) == shape(missing, unknown[real]), (method, url)
        if "ids[]" in url:
            assert foreign.json()["data"] == []
        else:
            assert foreign.status_code == (400 if "?after" in url or "?before" in url else 404)
    form = {"data": ("data", b"abc")}
    foreign = stranger.http.post(f"/v1/uploads/{upload_id}/parts", files=form)
    missing = stranger.http.post(f"/v1/uploads/{unknown[upload_id]}/parts", files=form)
    assert shape(foreign, upload_id) == shape(missing, unknown[upload_id])
    assert foreign.status_code == 404
    mine = stranger.openai.uploads.create(
        bytes=3, filename="a", mime_type="text/plain", purpose="user_data"
    ).id
    with pytest.raises(openai.BadRequestError) as raised:
        stranger.openai.uploads.complete(mine, part_ids=[part_id])
    assert raised.value.param == "part_ids[0]"
    assert stranger.http.get("/v1/files").json()["data"] == []
    assert tenant.http.get(f"/v1/files/{file_id}/content").content == b"secret"
    done = tenant.openai.uploads.complete(upload_id, part_ids=[part_id])
    assert done.file is not None and done.file.bytes == 3


def test_quota_of_a_plan_holds_and_is_shown(poor: Tenant) -> None:
    limit = 20 * MIB
    made = poor.upload(bytes(12 * MIB)).json()
    assert poor.used() == 12 * MIB
    refused = poor.upload(bytes(9 * MIB))
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "storage_limit_exceeded"
    assert refused.headers["x-storage-used-bytes"] == str(12 * MIB)
    assert refused.headers["x-storage-limit-bytes"] == str(limit)
    with pytest.raises(anthropic.APIStatusError) as raised:
        poor.anthropic.files.upload(file=bytes(9 * MIB))
    assert raised.value.status_code == 413
    body: Any = raised.value.body
    assert body["error"]["details"] == {"error_code": "storage_quota_exceeded"}

    def chunks(count: int) -> Iterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(count):
            yield bytes(MIB)
        yield b"\r\n--B--\r\n"

    form = {"content-type": "multipart/form-data; boundary=B"}
    refused = poor.http.post("/v1/files", content=chunks(9), headers=form)
    assert refused.status_code == 413 and poor.used() == 12 * MIB
    assert poor.http.post("/v1/files", content=chunks(8), headers=form).status_code == 200
    assert poor.used() == limit
    poor.http.delete(f"/v1/files/{made['id']}")
    assert poor.used() == 8 * MIB


def test_quota_race_of_twenty_uploads_admits_exactly_one(poor: Tenant) -> None:
    assert poor.upload(bytes(8 * MIB)).status_code == 200  # 12 MiB are left
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: poor.upload(bytes(12 * MIB * 6 // 10)), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [413] * 19
    assert poor.used() == 8 * MIB + 12 * MIB * 6 // 10


def test_upload_in_parts_becomes_one_file(tenant: Tenant) -> None:
    content = os.urandom(3 * MIB + 5)
    made = tenant.openai.uploads.upload_file_chunked(
        file=content,
        filename="large.bin",
        bytes=len(content),
        mime_type="application/octet-stream",
        purpose="user_data",
        part_size=MIB,
    )
    assert made.status == "completed" and made.file is not None
    assert tenant.openai.files.content(made.file.id).read() == content
    assert tenant.used() == len(content)
    md5 = hashlib.md5(content[:10], usedforsecurity=False).hexdigest()
    uploads = tenant.openai.uploads
    mine = uploads.create(bytes=10, filename="b", mime_type="text/plain", purpose="user_data")
    assert tenant.used() == len(content) + 10
    second = uploads.parts.create(mine.id, data=content[5:10]).id
    first = uploads.parts.create(mine.id, data=content[:5]).id
    for part_ids, digest, param in (
        ([first], None, "part_ids"),
        ([first, first], None, "part_ids[1]"),
        ([first, second], "0" * 32, "md5"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            uploads.complete(mine.id, part_ids=part_ids, md5=digest or openai.omit)
        assert raised.value.param == param
    done = uploads.complete(mine.id, part_ids=[first, second], md5=md5)
    assert done.file is not None
    assert tenant.openai.files.content(done.file.id).read() == content[:10]
    assert uploads.complete(mine.id, part_ids=[first, second]).file == done.file
    gone = uploads.create(bytes=10, filename="c", mime_type="text/plain", purpose="user_data")
    uploads.parts.create(gone.id, data=b"abc")
    assert uploads.cancel(gone.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        uploads.parts.create(gone.id, data=b"abc")
    assert tenant.used() == len(content) + 10


def test_answers_are_logged_without_filenames_and_signatures(
    gateway: Gateway, tenant: Tenant
) -> None:
    file_id = tenant.upload(b"abc", "canary-name.txt").json()["id"]
    httpx.get(f"{gateway.url}/v1/links/{file_id}?exp=99999999999&sig=canary-sig", trust_env=False)
    tenant.http.get("/v1/files?after=canary-after")
    log = gateway.whole_log()
    assert file_id in log
    for canary in ("canary-name", "canary-sig", "canary-after", "sig="):
        assert canary not in log
