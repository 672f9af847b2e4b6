"""Read the request of a job: the members that the gateway knows, checked."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_args

import msgspec

from edge.media.jobs.work import Media, Work
from edge.untyped_json import decode_any
from middlewares.problem import Problem, expected
from middlewares.stores.jobs.base import Kind

T = TypeVar("T")
Fields = Mapping[str, msgspec.Raw]

MOST_SECONDS = 3600.0
LONGEST_PROMPT = 32_000
LONGEST_MUSIC_PROMPT = 2000
LONGEST_LYRICS = 3500
LONGEST_CALLBACK = 8192
MOST_REFERENCES = 9
_SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")
_RATIO = re.compile(r"[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,20}")
_REFERENCE = "input_reference["
_FORMATS = get_args(Work.__annotations__["format"])

_BOTH = frozenset(
    ("model", "prompt", "seconds", "seed", "n", "metadata", "user", "callback_url", "models")
)
_VIDEO = _BOTH | frozenset(
    (
        *("duration", "size", "width", "height", "resolution", "aspect_ratio", "image"),
        *("input_reference", "last_image", "reference_images", "negative_prompt"),
        *("generate_audio", "fps", "response_format"),
    )
)
_MUSIC = _BOTH | frozenset(
    (
        *("lyrics", "instrumental", "is_instrumental", "force_instrumental", "music_length_ms"),
        *("duration", "style", "tags", "title", "format", "composition_plan", "response_format"),
    )
)

Image = str
"""An http(s) or data URL, or `file:` and the id of a file."""


def read_work(fields: Fields, kind: Kind, more: Collection[str]) -> Work:
    """The work of a request. more: members that pass under their own name. Raises Problem."""
    known = _VIDEO if kind == "video" else _MUSIC
    fields = _nested(fields)
    extra = {}
    for name, raw in fields.items():
        if name in known:
            continue
        if name not in more:
            raise Problem(
                "invalid_request",
                message=f"Unknown parameter: '{name}'.",
                param=name,
                issue="not a member that this model takes",
                extra={"code": "unknown_parameter"},
            )
        extra[name] = _any(raw, name)
    members = {name: _any(raw, name) for name, raw in fields.items() if name in known}
    members = {name: value for name, value in members.items() if value is not None}
    if members.get("n", 1) != 1:
        raise expected("n", "1: one job makes one result")
    work = _video(members) if kind == "video" else _music(members)
    return msgspec.structs.replace(work, extra=extra)


def _nested(fields: Fields) -> Fields:
    """The fields of a form with `input_reference[image_url]` as a member of `input_reference`."""
    found = {name: raw for name, raw in fields.items() if not name.startswith(_REFERENCE)}
    if len(found) < len(fields):
        inner = {
            name.removeprefix(_REFERENCE).removesuffix("]"): raw
            for name, raw in fields.items()
            if name.startswith(_REFERENCE)
        }
        found["input_reference"] = msgspec.Raw(msgspec.json.encode(inner))
    return found


def image_name(fields: Fields) -> str:
    """The name of the member that gives the image of a video."""
    raw = fields.get("image")
    return "input_reference" if raw is None or raw == msgspec.Raw(b"null") else "image"


def read_callback(fields: Fields) -> str:
    """The URL at which the end is reported, "" where there is none. Raises Problem."""
    raw = fields.get("callback_url")
    url = None if raw is None else _any(raw, "callback_url")
    if url is None:
        return ""
    if not isinstance(url, str) or len(url) > LONGEST_CALLBACK:
        raise expected("callback_url", "an https URL")
    return url


def _video(members: dict[str, Any]) -> Work:
    given = members.get("reference_images", [])
    if not isinstance(given, list) or len(given) > MOST_REFERENCES:
        raise expected("reference_images", f"an array of at most {MOST_REFERENCES} images")
    return Work(
        kind="video",
        prompt=_text(members, "prompt", LONGEST_PROMPT),
        seconds=_seconds(members),
        size=_size(members),
        resolution=_matched(members, "resolution", _WORD, 'such as "720p"'),
        aspect_ratio=_matched(members, "aspect_ratio", _RATIO, 'such as "16:9"'),
        media=Media(
            image=_image(members, "image") or _image(members, "input_reference"),
            last_image=_image(members, "last_image"),
            reference_images=tuple(
                _image({f"reference_images[{n}]": one}, f"reference_images[{n}]")
                for n, one in enumerate(given)
            ),
        ),
        seed=_of(members, "seed", int, "a whole number"),
        negative_prompt=_text(members, "negative_prompt", LONGEST_PROMPT),
        generate_audio=_of(members, "generate_audio", bool, "true or false"),
        fps=_of(members, "fps", int, "a whole number"),
    )


def _music(members: dict[str, Any]) -> Work:
    plan: dict[str, Any] | None = _of(members, "composition_plan", dict, "an object")
    kind = members.get("format", "mp3")
    if kind not in _FORMATS:
        raise expected("format", f"one of {', '.join(_FORMATS)}")
    silent = [
        bool(_of(members, name, bool, "true or false"))
        for name in ("instrumental", "is_instrumental", "force_instrumental")
    ]
    style = members.get("style", members.get("tags", ""))
    if isinstance(style, list):
        style = ", ".join(map(str, style))
    if not isinstance(style, str) or len(style) > LONGEST_MUSIC_PROMPT:
        raise expected("style", f"a string of at most {LONGEST_MUSIC_PROMPT} characters")
    return Work(
        kind="music",
        prompt=_text(members, "prompt", LONGEST_MUSIC_PROMPT),
        lyrics=_text(members, "lyrics", LONGEST_LYRICS),
        seconds=_seconds(members),
        instrumental=any(silent),
        style=style,
        title=_text(members, "title", 200),
        format=kind,
        seed=_of(members, "seed", int, "a whole number"),
        composition_plan=plan,
    )


def _seconds(members: dict[str, Any]) -> float:
    """Seconds under any of their names; 0 where none is given."""
    for name, unit in (("seconds", 1.0), ("duration", 1.0), ("music_length_ms", 1000.0)):
        value = members.get(name)
        if value is None:
            continue
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = 0.0
        if isinstance(value, bool) or not isinstance(value, int | float):
            value = 0.0
        if not 0 < value / unit <= MOST_SECONDS:
            raise expected(name, f"a number of more than 0, at most {MOST_SECONDS * unit:g}")
        return value / unit
    return 0.0


def _size(members: dict[str, Any]) -> str:
    width, height = members.get("width"), members.get("height")
    if "size" not in members and (width is not None or height is not None):
        for name, value in (("width", width), ("height", height)):
            if isinstance(value, bool) or not isinstance(value, int) or not 16 <= value <= 16384:
                raise expected(name, "a number of pixels from 16 to 16384")
        return f"{width}x{height}"
    return _matched(members, "size", _SIZE, 'such as "1280x720"')


def _matched(members: dict[str, Any], name: str, form: re.Pattern[str], what: str) -> str:
    value = members.get(name, "")
    if value and (not isinstance(value, str) or not form.fullmatch(value)):
        raise expected(name, f"a string {what}")
    return value or ""


def _text(members: dict[str, Any], name: str, longest: int) -> str:
    value = members.get(name, "")
    if not isinstance(value, str) or len(value) > longest:
        raise expected(name, f"a string of at most {longest} characters")
    return value


def _of(members: dict[str, Any], name: str, kind: Callable[..., T], what: str) -> T | None:
    value = members.get(name)
    if value is None:
        return None
    if type(value) is not kind:
        raise expected(name, what)
    return value  # type: ignore[no-any-return]


def _image(members: dict[str, Any], name: str) -> Image:
    """An image: a URL, a data URL, the id of a file, or an object with one of them."""
    value = members.get(name)
    if value is None:
        return ""
    path = name
    if isinstance(value, dict):
        for inner in ("file_id", "image_url", "url"):
            if isinstance(value.get(inner), str):
                value, path = value[inner], f"{name}.{inner}"
                break
        else:
            raise expected(name, "an image: `file_id`, `image_url` or `url`")
        if path.endswith(".file_id"):
            return f"file:{value}"
    if not isinstance(value, str):
        raise expected(name, "a URL, a data URL, or the id of a file")
    if value.startswith("file-"):
        return f"file:{value}"
    if not value.startswith(("https://", "http://", "data:image/")):
        raise expected(path, "an http(s) URL, a data URL of an image, or the id of a file")
    return value


def _any(raw: msgspec.Raw, name: str) -> Any:
    try:
        return decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise expected(name, "valid JSON") from None
