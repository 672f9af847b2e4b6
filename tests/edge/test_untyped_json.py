"""JSON of unknown form: numbers are read as msgspec reads them, however they are written."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, inspect

import edge
import middlewares
from edge.dialects.openai_chat.wire import decode_chunk, usage_in
from edge.dialects.openai_responses.standard_answer import finish_standard as usual_response
from edge.endpoints import BY_NAME
from edge.requests.output_limit import output_bound
from edge.untyped_json import decode_any, decode_object, number
from edge.vendors.errors.body import read_error
from middlewares.exchange import Usage

EDGE = Path(__file__).parents[2] / "edge"

finish_standard = msgspec.json.Decoder().decode


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_reads_what_msgspec_reads(value: float) -> None:
    for text in (repr(value), f"{value:.17e}", f"{value:.20E}"):
        if "." in text or "e" in text.lower():
            assert number(text) == finish_standard(text.encode())


@pytest.mark.parametrize(
    "text",
    ["1e308", "-1.5", "1e5", "0.1", "1E+30", "-0.0", "12345678901234567890", "-7", "true", '"1e5"'],
)
def test_decode_any_gives_what_msgspec_gives(text: str) -> None:
    value: Any = decode_any(text)
    assert value == finish_standard(text)
    assert type(value) is type(finish_standard(text))
    assert decode_object(f'{{"a":{text}}}') == {"a": value}


@pytest.mark.parametrize("text", ["1e309", "[-1e999]", '{"a":[1e400]}', "1.0.0", "[1e]", ""])
def test_decode_any_refuses_what_msgspec_refuses(text: str) -> None:
    for decode in (decode_any, finish_standard):
        with pytest.raises(msgspec.DecodeError):
            decode(text)
    with pytest.raises(msgspec.DecodeError):
        decode_object("[]")


def decoders() -> dict[str, msgspec.json.Decoder[Any]]:
    """All that the program has made, by module and name."""
    found = {}
    for package in (edge, middlewares):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" in module.name or module.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                decoder = getattr(value, "__self__", value)
                if isinstance(decoder, msgspec.json.Decoder):
                    found[f"{module.name}.{name}"] = decoder
    return found


def reads(form: inspect.Type, sought: type[inspect.Type], seen: set[type]) -> bool:
    """Whether a value of this form, or one within it, can be a `sought`. Raw is not looked into."""
    if isinstance(form, sought):
        return True
    if isinstance(form, inspect.StructType):
        if form.cls in seen:
            return False
        seen.add(form.cls)
    parts: list[inspect.Type] = [field.type for field in getattr(form, "fields", ())]
    for name in ("item_type", "key_type", "value_type"):
        part = getattr(form, name, None)
        parts += [part] if isinstance(part, inspect.Type) else []
    for name in ("item_types", "types"):
        parts += getattr(form, name, ())
    return any(reads(part, sought, seen) for part in parts)


def reading(sought: type[inspect.Type]) -> dict[str, msgspec.json.Decoder[Any]]:
    """Those that may read a `sought`, except of stores: their rows were written by the gateway."""
    return {
        name: decoder
        for name, decoder in decoders().items()
        if not name.startswith("middlewares.stores.")
        and reads(inspect.type_info(decoder.type), sought, set())
    }


def test_every_decoder_of_unknown_form_reads_numbers_by_the_hook() -> None:
    """Also where a member of a known object is of unknown form: it can be there many times."""
    found = reading(inspect.AnyType)
    assert len(found) > 20
    assert [name for name, decoder in found.items() if decoder.float_hook is not number] == []


def test_every_decoder_of_a_number_reads_one() -> None:
    """msgspec has no hook for members that are to be floats. They are Raw, and read once, except
    where the gateway has written the members itself, each once."""
    scalar = (inspect.FloatType, inspect.IntType, inspect.NoneType)
    found = reading(inspect.FloatType)
    own = (
        "edge.upstreams.claude_cli.input._decode",
        "edge.media.jobs.work._decode_work",
        "edge.media.jobs.work.decode_terms",
        "edge.proxy.describing.describers._decode_transcript",
        "edge.dashboard.oidc.attempt._decode",
    )
    written_here = [found[name] for name in own]
    found = {name: one for name, one in found.items() if one not in written_here}
    for name, decoder in found.items():
        form = inspect.type_info(decoder.type)
        forms = form.types if isinstance(form, inspect.UnionType) else (form,)
        assert all(isinstance(each, scalar) for each in forms), name


def test_decoding_without_a_decoder_is_left_to_operators_and_texts() -> None:
    """`msgspec.json.decode` has no hook."""
    found = {
        str(path.relative_to(EDGE))
        for path in EDGE.rglob("*.py")
        if "msgspec.json.decode(" in path.read_text()
    }
    assert found == {
        "cli/streamed_call.py",
        "dialects/filters.py",
        "management/http/admin_request.py",
        "runtime/status.py",
    }


def repeated(name: str, count: int = 3000) -> str:
    return ",".join([f'"{name}":1e308'] * count)


def test_numbers_there_many_times_are_read_as_the_last() -> None:
    """By the readers of each form: a usage, an event, an error, a bound."""
    usage = f'{{"prompt_tokens":7,{repeated("server_tool_use")},"completion_tokens":5}}'
    chunk = f'{{"usage":{usage},{repeated("service_tier")},"choices":[]}}'.encode()
    assert usage_in(decode_chunk(chunk)) == Usage(7, 5)
    said = read_error(f'{{"error":{{{repeated("code")},"message":"no"}}}}'.encode())
    assert said.messages == ["no"]
    thinking = f'{{{repeated("max_tokens")},{repeated("budget_tokens")},"budget_tokens":900}}'
    fields = {"max_tokens": Raw(b"100"), "thinking": Raw(thinking.encode())}
    assert output_bound(BY_NAME["messages"], fields, None) > 100
    answer = '{"id":"r","object":"response","model":"m","status":"completed","output":[],{}}'
    for actual, known in ((repeated("temperature"), True), ('"temperature":"hot"', False)):
        body = answer.replace("{}", actual).encode()
        assert (usual_response(body, "m", {}) is not None) == known
