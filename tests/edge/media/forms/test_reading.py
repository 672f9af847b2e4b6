"""Forms are read from pieces of any size, within their bounds."""

import asyncio
import random
from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.media.forms import FileEnd, FileStart, FormBounds, FormField, read_form, stream_form
from edge.media.forms.form import Form
from middlewares.asgi import Message
from middlewares.body import FREE_PIECES
from middlewares.problem import Problem
from middlewares.uploads import Upload, Uploads

from .hostile import HOSTILE
from .wire import Sender, deleted_files, form, part, pieces, scope, sender

BOUNDS = FormBounds(size=8 << 20, file=4 << 20, names={"file": 1}, files=3)


async def read(
    whole: bytes | Sequence[bytes], bounds: FormBounds = BOUNDS, size: int = 1 << 16
) -> Form:
    return await read_form(scope(), sender(whole, size), bounds=bounds, idle=5)


async def refused(whole: bytes | Sequence[bytes], bounds: FormBounds = BOUNDS) -> Problem:
    with pytest.raises(Problem) as raised:
        await read(whole, bounds)
    return raised.value


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
async def test_read_form_keeps_parts_in_the_clients_order(size: int) -> None:
    whole = form(
        part("file", b"RIFF\x00data", "a.wav", "audio/wav"),
        part("model", b"whisper"),
        part("tag[]", "grün".encode()),
        part("tag[]", b""),
    )
    read_back = await read(whole, size=size)
    file, *fields = read_back.parts
    assert [f.name for f in read_back.files()] == ["file"]
    assert (file.filename, file.content_type) == ("a.wav", "audio/wav")  # type: ignore[union-attr]
    assert await read_back.files("file")[0].spool.read() == b"RIFF\x00data"
    assert fields == [
        FormField("model", "whisper"),
        FormField("tag[]", "grün"),
        FormField("tag[]", ""),
    ]
    read_back.close()


@pytest.mark.parametrize("size", [1, 64 << 10])
async def test_read_form_of_a_large_random_file_is_exact(size: int) -> None:
    """Also in pieces of one byte, of which a body may have only so many."""
    length = (3 << 20) if size > 1 else FREE_PIECES - 200
    data = random.Random(4).randbytes(length)
    read_back = await read(form(part("file", data, "x.bin")), size=size)
    spool = read_back.files()[0].spool
    assert (spool.size, spool.sha256) == (length, sha256(data).digest())
    read_back.close()


NEAR = (b"\r\n--B", b"\r\n--B-x", b"--B", b"--B--", b"\r\n--", b"\r", b"\n", b"\r\n", b"B", b"x")


@given(
    st.lists(st.sampled_from(NEAR), min_size=1, max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
)
async def test_read_form_delimiter_like_data_is_kept_at_every_cut(
    words: list[bytes], cuts: list[int]
) -> None:
    """The boundary of the request is longer than what the data holds of it."""
    data = b"".join(words)
    boundary = b"Bx"  # `\r\n--B` and `\r\n--B-x` begin like it
    if b"\r\n--" + boundary in b"\r\n" + data + b"\r\n":
        data = data.replace(b"--Bx", b"")
    whole = form(part("file", data or b"-", "f"), part("model", b"m"), boundary=boundary)
    split, at = [], 0
    for n in range(len(whole)):
        cut = cuts[n % len(cuts)]
        split.append(whole[at : at + cut])
        at += cut
        if at >= len(whole):
            break
    read_back = await read_form(
        scope(b"multipart/form-data; boundary=" + boundary), sender(split), bounds=BOUNDS, idle=5
    )
    assert await read_back.files()[0].spool.read() == (data or b"-")
    assert list(read_back.fields()) == [FormField("model", "m")]
    read_back.close()


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("日本語.pdf".encode(), "日本語.pdf"),
        (b"caf\xe9.mp3", "café.mp3"),
        (b"a%22b.png", 'a"b.png'),
        (b"..%2F../../x.wav", "x.wav"),
        (b"C:\\music\\x.wav", "x.wav"),
        (b"x" * 300 + b".mp3", "x" * 251 + ".mp3"),
    ],
)
async def test_read_form_filename_in_utf8_or_cp1252_loses_its_path(
    filename: bytes, kept: str
) -> None:
    head = b'Content-Disposition: form-data; name="file"; filename="' + filename + b'"'
    read_back = await read(form(head + b"\r\n\r\n" + b"x"))
    assert read_back.files()[0].filename == kept
    read_back.close()


async def test_read_form_field_in_a_named_charset_is_decoded_by_it() -> None:
    read_back = await read(
        form(part("prompt", b"caf\xe9", kind="text/plain; charset=ISO-8859-1"), part("a", b"b"))
    )
    assert next(read_back.fields()) == FormField("prompt", "café")


async def test_read_form_named_file_without_a_filename_is_a_file() -> None:
    read_back = await read(form(part("file", b"\x00\x01")))
    assert read_back.files()[0].filename == ""
    read_back.close()


async def test_stream_form_gives_events_before_the_form_ends() -> None:
    whole = form(part("purpose", b"vision"), part("file", b"abc" * 10, "a.png", "image/png"))
    receive = Sender(pieces(whole, 100))
    events = stream_form(scope(), receive, bounds=BOUNDS, idle=5)
    assert await anext(events) == FormField("purpose", "vision")
    assert receive.asked == 1
    assert await anext(events) == FileStart("file", "a.png", "image/png")
    rest = [event async for event in events]
    assert b"".join(e for e in rest if isinstance(e, bytes)) == b"abc" * 10
    assert rest[-1] == FileEnd()


@pytest.mark.parametrize(
    ("whole", "param", "said"),
    [
        (form(part("file", b"", "a.wav")), "file", "a file that is not empty"),
        (form(part("file", b"x", "a"), part("file", b"y", "b")), "file", "one file of this name"),
        (form(part("file", b"x", "a"), part("file[]", b"y", "b")), "file", "one file of this name"),
        (form(*[part("other", b"x", "a")] * 4), "other", "at most 3 files"),
        (form(part("a", b"\xff")), "a", "text in UTF-8"),
        (form(part("a", b"x", kind="text/plain; charset=utf-16")), "a", "text in UTF-8"),
        (form(part("a", b"x" * ((1 << 20) + 1))), "a", "at most 1048576 bytes"),
        (form(*[part("a", b"x")] * 65), None, "more than 64 text fields"),
        (form(*[part(f"f{n}", b"x" * (1 << 20)) for n in range(4)]), None, "bytes together"),
        (form(part("", b"x")), None, "no name"),
        (form(part("a\tb", b"x")), None, "control characters"),
        (form(b"Content-Type: text/plain\r\n\r\nx"), None, "boundary or the headers"),
        (form(part("a", b"x", kind="multipart/mixed; boundary=C")), None, "itself multipart"),
        (form(part("a", b"x"))[:-4], None, "before its last boundary"),
        (b"--B\nContent-Disposition: form-data; name=a\n\nx\n--B--\n", None, "boundary"),
        (b"--B--\r\n", None, "no parts"),
        (b"", None, "before its last boundary"),
    ],
)
async def test_read_form_broken_is_refused_with_the_field_and_what_was_expected(
    whole: bytes, param: str | None, said: str
) -> None:
    problem = await refused(whole or [b""])
    assert (problem.kind, problem.param) == ("invalid_request", param)
    assert said in str(problem.message)


async def test_read_form_file_over_its_bound_is_refused_before_it_is_whole() -> None:
    bounds = FormBounds(size=8 << 20, file=100_000, names={"file": 1})
    receive = Sender(pieces(form(part("file", b"x" * 1_000_000, "a")), 50_000))
    with pytest.raises(Problem) as raised:
        await read_form(scope(), receive, bounds=bounds, idle=5)
    assert (raised.value.kind, raised.value.param) == ("request_too_large", "file")
    assert receive.asked <= 3


async def test_read_form_content_length_over_the_bound_reads_nothing() -> None:
    """So that a client that sent `expect: 100-continue` sends nothing."""
    receive = Sender([b"x"])
    huge = scope(b"multipart/form-data; boundary=B", (b"content-length", b"999999999"))
    with pytest.raises(Problem) as raised:
        await read_form(huge, receive, bounds=BOUNDS, idle=5)
    assert (raised.value.kind, receive.asked) == ("request_too_large", 0)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"application/json", "unsupported_media_type"),
        (b"", "unsupported_media_type"),
        (b"multipart/mixed; boundary=B", "unsupported_media_type"),
        (b"multipart/form-data", "invalid_request"),
        (b'multipart/form-data; boundary=""', "invalid_request"),
        (b"multipart/form-data; boundary=" + b"x" * 71, "invalid_request"),
        (b'multipart/form-data; boundary="a\tb"', "invalid_request"),
    ],
)
async def test_read_form_of_another_content_type_says_what_is_expected(
    content_type: bytes, kind: str
) -> None:
    receive = Sender([form(part("a", b"b"))])
    with pytest.raises(Problem) as raised:
        await read_form(scope(content_type), receive, bounds=BOUNDS, idle=5)
    assert (raised.value.kind, raised.value.param) == (kind, "content-type")
    assert "multipart/form-data" in str(raised.value.message)
    assert receive.asked == 0


async def test_read_form_quoted_boundary_is_read() -> None:
    whole = form(part("a", b"b"), boundary=b"=_x y:1")
    read_back = await read_form(
        scope(b'multipart/form-data; charset=utf-8; boundary="=_x y:1"'),
        sender(whole),
        bounds=BOUNDS,
        idle=5,
    )
    assert read_back.parts == [FormField("a", "b")]


async def test_read_form_counts_its_memory_and_gives_it_back() -> None:
    uploads = Uploads(total=1 << 20, each=1 << 20)
    upload = Upload(uploads, "a")
    whole = form(part("a", b"x" * 1000), part("file", b"y" * (3 << 20), "f"))
    read_back = await read_form(scope(), sender(whole), bounds=BOUNDS, idle=5, upload=upload)
    assert 1000 <= uploads.held < 400_000  # the file is on disk
    read_back.close()
    upload.close()
    assert uploads.held == 0


@pytest.mark.parametrize("name", HOSTILE)
async def test_read_form_hostile_body_is_refused_after_few_pieces(name: str) -> None:
    receive = Sender(HOSTILE[name])
    with pytest.raises(Problem) as raised:
        await read_form(scope(), receive, bounds=BOUNDS, idle=5)
    assert raised.value.kind in ("invalid_request", "request_too_large")
    if name != "half boundaries":  # it is a file, and refused at the bound of files
        assert receive.asked <= 8, name


async def test_read_form_epilogue_counts_for_the_bound_of_the_body() -> None:
    whole = [form(part("a", b"b")), *[b"x" * (64 << 10)] * 200]
    assert (await refused(whole)).kind == "request_too_large"
    assert (await read([form(part("a", b"b")), b"x" * 1000])).parts == [FormField("a", "b")]


class Silent(Sender):
    """A client that sends its last piece never."""

    async def __call__(self) -> Message:
        if len(self.left) == 1:
            await asyncio.Event().wait()
        return await super().__call__()


@pytest.mark.simulated_time
async def test_read_form_that_stops_arriving_is_refused() -> None:
    receive = Silent(pieces(form(part("file", b"x" * 100_000, "a")), 50_000))
    with pytest.raises(Problem) as raised:
        await read_form(scope(), receive, bounds=BOUNDS, idle=30)
    assert raised.value.kind == "request_timeout"


@pytest.mark.simulated_time
async def test_stream_form_time_of_its_consumer_does_not_count_as_silence() -> None:
    receive = Sender(pieces(form(part("file", b"x" * 100_000, "a")), 10_000))
    taken = 0
    async for event in stream_form(scope(), receive, bounds=BOUNDS, idle=5, longest=20):
        await asyncio.sleep(30)  # a slow store
        taken += len(event) if isinstance(event, bytes) else 0
    assert taken == 100_000


async def test_read_form_refused_in_the_middle_deletes_its_file() -> None:
    before = deleted_files()
    whole = form(part("file", b"x" * 1_000_000, "a"))[:-4]
    assert (await refused(whole)).kind == "invalid_request"
    assert deleted_files() == before
