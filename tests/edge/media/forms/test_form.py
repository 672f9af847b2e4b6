"""Forms as members of a JSON object, their digests, and as bodies of upstream requests."""

from hashlib import sha256

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edge.media.forms import Form, FormBody, FormBounds, FormField, FormFile, Spool, read_form

from .wire import scope, sender

BOUNDS = FormBounds(size=1 << 20, file=1 << 20, files=9)


async def file(name: str, data: bytes, filename: str = "", kind: str = "") -> FormFile:
    spool = Spool(memory=1000)
    await spool.write(data)
    await spool.finish()
    return FormFile(name, filename, kind, spool)


async def sent(body: FormBody) -> bytes:
    whole = b"".join([piece async for piece in body])
    assert len(whole) == body.length
    return whole


def test_members_are_those_of_the_json_request() -> None:
    form = Form(
        [
            FormField("model", "m"),
            FormField("stream", "true"),
            FormField("n", "2"),
            FormField("temperature", "0.5"),
            FormField("include[]", "logprobs"),
            FormField("languages", "en"),
            FormField("tag", "1"),
            FormField("tag", "2"),
            FormField("prompt", "true"),
        ]
    )
    types = {"stream": bool, "n": int, "temperature": float, "languages": list}
    made = {name: msgspec.json.decode(raw) for name, raw in form.members(types).items()}
    assert made == {
        "model": "m",
        "stream": True,
        "n": 2,
        "temperature": 0.5,
        "include": ["logprobs"],
        "languages": ["en"],
        "tag": ["1", "2"],
        "prompt": "true",
    }


def test_members_that_are_no_literal_stay_strings() -> None:
    form = Form([FormField("n", "two"), FormField("stream", "maybe"), FormField("t", "1e999")])
    made = form.members({"n": int, "stream": bool, "t": float})
    assert [bytes(raw) for raw in made.values()] == [b'"two"', b'"maybe"', b'"1e999"']


async def test_digest_depends_on_the_bytes_and_names_of_files_not_on_boundaries() -> None:
    one, same = await file("file", b"x", "a.wav"), await file("file", b"x", "b.wav")
    other, moved = await file("file", b"y"), await file("mask", b"x")
    assert one.spool.sha256 == sha256(b"x").digest()
    assert Form([one]).digest() == Form([FormField("a", "b"), same]).digest()
    assert len({Form([each]).digest() for each in (one, other, moved)} | {Form().digest()}) == 4


async def test_form_body_is_sent_from_its_beginning_each_time() -> None:
    big = await file("image[]", bytes(range(256)) * 1000, 'ü"b\n.png', "image/png")
    body = FormBody([FormField("model", "gpt"), big, FormField("grün[]", "a\r\nb")])
    first = await sent(body)
    assert first == await sent(body)
    read_back = await read_form(
        scope(body.content_type), sender(first, 1000), bounds=BOUNDS, idle=5
    )
    assert list(read_back.fields()) == [FormField("model", "gpt"), FormField("grün[]", "a\r\nb")]
    (again,) = read_back.files("image")
    assert (again.name, again.filename, again.content_type) == ("image[]", 'ü"b.png', "image/png")
    assert again.spool.sha256 == big.spool.sha256
    assert [type(part).__name__ for part in read_back.parts] == [
        "FormField",
        "FormFile",
        "FormField",
    ]
    big.spool.close()
    read_back.close()


async def test_form_body_file_without_a_name_or_type_gets_them_from_its_bytes() -> None:
    """Upstreams tell audio by the extension."""
    wav = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40)
    whole = await sent(FormBody([await file("file", wav), await file("file", wav, "blob")]))
    assert b'filename="file.wav"\r\nContent-Type: audio/wav\r\n' in whole
    assert b'filename="blob.wav"\r\n' in whole
    named = await file("file", b"?", "speech.webm", "audio/webm")
    assert b'filename="speech.webm"\r\nContent-Type: audio/webm\r\n' in await sent(
        FormBody([named])
    )
    evil = await file("file", b"\x00", "a", "text/html\x00evil")
    assert b"Content-Type: application/octet-stream\r\n" in await sent(FormBody([evil]))


text = st.text(st.characters(codec="utf-8"), max_size=30)


@given(st.lists(st.tuples(st.text(st.characters(categories=("L", "N")), min_size=1), text)))
async def test_form_body_any_fields_are_read_back_as_they_were(
    fields: list[tuple[str, str]],
) -> None:
    parts = [FormField(name, value) for name, value in fields[:64]] or [FormField("a", "")]
    body = FormBody(parts)
    whole = await sent(body)
    read_back = await read_form(scope(body.content_type), sender(whole), bounds=BOUNDS, idle=5)
    assert read_back.parts == parts
