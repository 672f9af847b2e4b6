"""OpenAI's checks that Chat Completions and Responses share."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from edge.upstreams.simulator.prompt import PromptRejected

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_IMAGE_DATA = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/]+=*")


def known(given: Mapping[str, Any], names: Collection[str], path: str) -> None:
    """No key but these. path: of the object, with its dot, or nothing."""
    for name in given:
        if name not in names:
            where = f"{path}{name}"
            raise PromptRejected(400, f"Unknown parameter: '{where}'.", where, "unknown_parameter")


def among(value: Any, values: Collection[str], path: str) -> None:
    if value not in values:
        listed = ", ".join(f"'{name}'" for name in values)
        raise PromptRejected(
            400,
            f"Invalid value: '{value}'. Supported values are: {listed}.",
            path,
            "invalid_value",
        )


def text(value: Any, path: str, longest: int | None = None) -> str:
    """A string of at most so many characters."""
    if value is None:
        raise PromptRejected(
            400, f"Missing required parameter: '{path}'.", path, "missing_required_parameter"
        )
    if not isinstance(value, str):
        raise PromptRejected(
            400,
            f"Invalid type for '{path}': expected a string, but got {_kind(value)} instead.",
            path,
            "invalid_type",
        )
    if longest is not None and len(value) > longest:
        raise PromptRejected(
            400,
            f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, "
            f"but got a string with length {len(value)} instead.",
            path,
            "string_above_max_length",
        )
    return value


def name(value: Any, path: str, longest: int) -> str:
    """The name of a function."""
    if text(value, path, longest) == "":
        raise PromptRejected(
            400,
            f"Invalid '{path}': empty string. Expected a string with minimum length 1, but got an "
            "empty string instead.",
            path,
            "empty_string",
        )
    if not _NAME.fullmatch(value):
        raise PromptRejected(
            400,
            f"Invalid '{path}': string does not match pattern. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$'.",
            path,
            "invalid_value",
        )
    return str(value)


def number(given: Mapping[str, Any], key: str, low: float, high: float) -> None:
    value = given.get(key)
    if not isinstance(value, (int, float)):
        return
    if value < low or value > high:
        side, bound = (
            ("below minimum", f">= {low:g}") if value < low else ("above maximum", f"<= {high:g}")
        )
        raise PromptRejected(
            400,
            f"Invalid '{key}': decimal {side} value. Expected a value {bound}, but got {value} "
            "instead.",
            key,
            f"decimal_{side.replace(' ', '_').replace('imum', '')}_value",
        )


def image(url: Any, path: str) -> None:
    """A link, or a data URL of one of the four kinds of image."""
    if text(url, path).startswith(("https://", "http://")) or _IMAGE_DATA.fullmatch(url):
        return
    raise PromptRejected(
        400,
        f"Invalid '{path}'. Expected a valid URL or a base64-encoded data URL with an image MIME "
        "type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU=').",
        path,
        "invalid_image_url",
    )


def limits(given: Mapping[str, Any]) -> None:
    """Fields that both have at the top."""
    number(given, "temperature", 0, 2)
    number(given, "top_p", 0, 1)
    for key in ("safety_identifier", "prompt_cache_key"):
        if given.get(key) is not None:
            text(given[key], key, 64)
    metadata = given.get("metadata") or {}
    if len(metadata) > 16:
        raise PromptRejected(400, "Invalid 'metadata': too many properties.", "metadata")
    for key, value in metadata.items():
        text(value, f"metadata.{key}", 512)
    if given.get("stream_options") is not None and not given.get("stream"):
        raise PromptRejected(
            400,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )


def parameters(schema: Any, function: str, path: str, *, strict: bool) -> None:
    """The JSON Schema of a function's arguments."""
    if schema is None or schema == {}:
        if not strict:
            return
        schema = {}
    whose = f"Invalid schema for function '{function}': "
    _schema(schema, whose, path, "invalid_function_parameters", strict=strict)


def answer_format(given: Mapping[str, Any], path: str) -> None:
    """The inside of a `json_schema` format."""
    name(given.get("name"), f"{path}.name", 64)
    if given.get("schema") is not None:
        whose = f"Invalid schema for response_format '{given['name']}': "
        _schema(
            given["schema"], whose, path, "invalid_json_schema", strict=bool(given.get("strict"))
        )


def _schema(schema: Any, whose: str, path: str, code: str, *, strict: bool) -> None:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind != "object":
        fault = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
        raise PromptRejected(400, whose + fault, path, code)
    if not strict and "properties" not in schema:
        fault = "In context=(), object schema missing properties."
        raise PromptRejected(400, whose + fault, path, code)
    if strict:
        for fault in _faults(schema, ()):
            raise PromptRejected(400, whose + fault, path, code)


def _faults(schema: Any, context: tuple[str, ...]) -> Iterable[str]:
    """Violations of the subset of structured outputs."""
    if not isinstance(schema, dict):
        return
    place = f"In context={context}, "
    if schema.get("type") == "object":
        properties = schema.get("properties") or {}
        if schema.get("additionalProperties") is not False:
            yield f"{place}'additionalProperties' is required to be supplied and to be false."
        for missing in [key for key in properties if key not in (schema.get("required") or ())]:
            yield (
                f"{place}'required' is required to be supplied and to be an array including every "
                f"key in properties. Missing '{missing}'."
            )
    for word in ("oneOf", "allOf", "not", "if", "patternProperties"):
        if word in schema:
            yield f"{place}'{word}' is not permitted."
    for group in ("properties", "$defs", "definitions"):
        for key, inner in (schema.get(group) or {}).items():
            yield from _faults(inner, (*context, group, key))
    yield from _faults(schema.get("items"), (*context, "items"))
    for n, inner in enumerate(schema.get("anyOf") or ()):
        yield from _faults(inner, (*context, "anyOf", str(n)))


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", bool: "a boolean", int: "an integer"}
    return kinds.get(type(value), "a number")
