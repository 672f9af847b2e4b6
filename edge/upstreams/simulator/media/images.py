"""POST /images/generations and /images/edits: pictures that follow from the request."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from edge.upstreams.simulator.answer import FaultFrames, SimulatedAnswer, plain, seconds_for, stream
from edge.upstreams.simulator.chat import CREATED, Frame
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.refusals import error_event
from edge.upstreams.simulator.request import SimulatorRequest, refused, vendor_headers
from edge.upstreams.simulator.stats import Used
from edge.upstreams.simulator.tokens import count

from .fields import MediaFields, MediaFile, read_fields
from .pictures import FORMATS, dimensions
from .sight import bytes_of_url, kind_of

_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})")
_LARGEST_SIDE = 3840
_MOST_IMAGES = 16
_LARGEST_IMAGE = 50 << 20
_LARGEST_MASK = 4 << 20
_LONGEST_PROMPT = 32_000
_INPUT_TOKENS = 85
_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
_encode = msgspec.json.Encoder().encode


class _Wanted(msgspec.Struct, frozen=True):
    fields: MediaFields
    name: str
    n: int
    width: int
    height: int
    format: str
    revised: str
    seed: bytes
    given: int

    def picture(self, index: int) -> bytes:
        seed = bytes([(self.seed[0] + index) % 256]) + self.seed[1:]
        return FORMATS[self.format](self.width, self.height, seed, self.fields.text)

    @property
    def about(self) -> dict[str, Any]:
        return {
            "background": self.fields.values.get("background", "auto"),
            "output_format": self.format,
            "quality": self.fields.values.get("quality", "auto"),
            "size": f"{self.width}x{self.height}",
        }

    def usage(self, n: int) -> dict[str, Any]:
        """Tokens of `n` of its images; the input is charged once."""
        text = count(self.fields.text)
        given = self.given * _INPUT_TOKENS
        output = n * max(1, self.width * self.height // 1024)
        return {
            "input_tokens": text + given,
            "input_tokens_details": {"text_tokens": text, "image_tokens": given},
            "output_tokens": output,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": output},
            "total_tokens": text + given + output,
        }


def generate(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /images/generations."""
    request, fields = read_fields(request, "prompt", takes="json")
    return _answered(request, _wanted(request, fields, "image_generation", fields.text, 0))


def edit(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /images/edits, as a form or as JSON."""
    request, fields = read_fields(request, "prompt", takes="both")
    images = media_files(request, fields, "images" if request.form is None else "image")
    masks = media_files(request, fields, "mask")
    if not 1 <= len(images) <= _MOST_IMAGES:
        raise PromptRejected(
            400,
            f"Invalid 'image': expected 1 to {_MOST_IMAGES} images, got {len(images)}.",
            "image",
        )
    for at, image in enumerate(images):
        _check(image, f"image[{at}]", _LARGEST_IMAGE, ("image/png", "image/jpeg", "image/webp"))
    if len(masks) > 1:
        raise PromptRejected(400, "Invalid 'mask': expected one.", "mask")
    for mask in masks:
        _check(mask, "mask", _LARGEST_MASK, ("image/png",))
    seen = [f"{len(images)} images: {', '.join(map(said_of, images))}"]
    seen += [f"mask: {said_of(mask)}" for mask in masks]
    seen += [f"markup: {said_of(each)}" for each in media_files(request, fields, "markup")]
    revised = f"{fields.text} ({'; '.join(seen)})"
    return _answered(request, _wanted(request, fields, "image_edit", revised, len(images)))


def picture(request: SimulatorRequest) -> SimulatedAnswer:
    """GET of the link to a picture: `/pictures/WIDTHxHEIGHT-SEED.FORMAT`."""
    found = re.search(r"/(\d+)x(\d+)-([0-9a-f]{64})\.(\w+)$", request.path)
    if found is None or found[4] not in FORMATS:
        raise PromptRejected(404, "No such picture.")
    data = FORMATS[found[4]](int(found[1]), int(found[2]), bytes.fromhex(found[3]), "")
    kind = _TYPES.get(found[4], "image/svg+xml").encode()
    return msgspec.structs.replace(
        plain(data, request.controls, kind=kind), counts=(("downloads", 1),)
    )


def _wanted(
    request: SimulatorRequest, fields: MediaFields, name: str, revised: str, given: int
) -> _Wanted:
    if len(fields.text) > _LONGEST_PROMPT:
        raise PromptRejected(
            400, f"Invalid 'prompt': at most {_LONGEST_PROMPT} characters.", "prompt"
        )
    size = str(fields.values.get("size") or "auto")
    width = height = 1024
    if size != "auto":
        found = _SIZE.fullmatch(size)
        width, height = (int(found[1]), int(found[2])) if found else (0, 0)
        odd = fields.controls.strict and (width % 16 or height % 16)
        if min(width, height) < 1 or max(width, height) > _LARGEST_SIDE or odd:
            raise PromptRejected(400, f"Invalid size '{size}'.", "size", "invalid_value")
    fields.choice("response_format", ("b64_json", "url"), "b64_json")
    return _Wanted(
        fields=fields,
        name=name,
        n=fields.whole("n", 1, 1, 10),
        width=width,
        height=height,
        format=fields.choice("output_format", tuple(FORMATS), "png"),
        revised=revised,
        seed=bytes.fromhex(request.identity)[:8] + bytes.fromhex(request.identity),
        given=given,
    )


def _answered(request: SimulatorRequest, wanted: _Wanted) -> SimulatedAnswer:
    if refusal := refused(request):
        return refusal
    fields, controls = wanted.fields, request.controls
    reports = controls.usage != "none"
    usage = wanted.usage(wanted.n)
    used = Used(fields.model, usage["input_tokens"], 0, 0, usage["output_tokens"])
    counts = (("images", wanted.n),)
    headers = vendor_headers(request)
    if fields.switch("stream"):
        partials = fields.whole("partial_images", 0, 0, 3)
        frames = list(_events(wanted, partials, reports))
        fault_frames = FaultFrames(
            b'data: {"type":"image_\n\n', error_event("openai", request.identity)
        )
        found = stream(frames, controls, fault_frames, headers=headers, used=used)
    else:
        linked = fields.values.get("response_format") == "url"
        body = _encode(
            {
                "created": CREATED,
                "data": [_item(request, wanted, n, linked) for n in range(wanted.n)],
                **wanted.about,
                **({"usage": usage} if reports else {}),
            }
        )
        seconds = seconds_for(wanted.n, controls)
        found = plain(body, controls, headers=headers, seconds=seconds, used=used)
    return msgspec.structs.replace(found, model=fields.model, counts=counts)


def _item(request: SimulatorRequest, wanted: _Wanted, n: int, linked: bool) -> dict[str, Any]:
    if linked:
        seed = bytes([(wanted.seed[0] + n) % 256]) + wanted.seed[1:]
        name = f"{wanted.width}x{wanted.height}-{seed.hex()}.{wanted.format}"
        return {
            "url": f"{request.account.base}/pictures/{name}?sig=sim-secret",
            "revised_prompt": wanted.revised,
        }
    return {
        "b64_json": b64encode(wanted.picture(n)).decode(),
        "revised_prompt": wanted.revised,
    }


def _events(wanted: _Wanted, partials: int, reports: bool) -> Iterator[Frame]:
    for n in range(wanted.n):
        encoded = b64encode(wanted.picture(n)).decode()
        for index in range(partials):
            kind = f"{wanted.name}.partial_image"
            yield _event(kind, wanted, encoded, {"partial_image_index": index}), True
        done: dict[str, Any] = {"revised_prompt": wanted.revised}
        if reports:
            whole, before = wanted.usage(n + 1), wanted.usage(n)
            done["usage"] = wanted.usage(1) if n == 0 else _less(whole, before)
        yield _event(f"{wanted.name}.completed", wanted, encoded, done), True


def _less(whole: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The usage of the images after the first: no input."""
    return {
        name: _less(value, before[name]) if isinstance(value, dict) else value - before[name]
        for name, value in whole.items()
    }


def _event(kind: str, wanted: _Wanted, encoded: str, more: dict[str, Any]) -> bytes:
    members = {"type": kind, "b64_json": encoded, "created_at": CREATED, **wanted.about, **more}
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode(members))


def media_files(
    request: SimulatorRequest, fields: MediaFields, name: str
) -> list[MediaFile | bytes]:
    """Media of a field: files of the form, or data, links and file ids of a JSON body."""
    if request.form is not None:
        return list(request.form.files(name))
    value = fields.values.get(name)
    found: list[MediaFile | bytes] = []
    for at, each in enumerate(value if isinstance(value, list) else [value] if value else []):
        param = f"{name}[{at}]"
        if not isinstance(each, dict):
            raise PromptRejected(400, f"Invalid type for '{param}': expected an object.", param)
        if file_id := each.get("file_id"):
            found.append(request.account.file(str(file_id), param))
            continue
        data = bytes_of_url(str(each.get("image_url") or ""))
        if data is None:
            raise PromptRejected(400, f"Invalid '{param}.image_url': expected a URL.", param)
        found.append(data)
    return found


def _check(image: MediaFile | bytes, param: str, most: int, kinds: tuple[str, ...]) -> None:
    size = len(image) if isinstance(image, bytes) else image.size
    if size > most:
        raise PromptRejected(400, f"Invalid '{param}': larger than {most} bytes.", param)
    data = image if isinstance(image, bytes) else image.data or b""
    if data.startswith((b"https://", b"http://")):
        return
    if not size:
        raise PromptRejected(400, f"Invalid '{param}': the file is empty.", param)
    if kind_of(data) not in kinds:
        raise PromptRejected(
            400,
            f"Invalid image file or mode for '{param}': expected {', '.join(kinds)}.",
            param,
            "invalid_image_file",
        )


def said_of(image: MediaFile | bytes) -> str:
    """Type, dimensions, size and digest of an image, in words."""
    data = image if isinstance(image, bytes) else image.data or b""
    digest = sha256(data).hexdigest() if isinstance(image, bytes) else image.sha256
    if data.startswith((b"https://", b"http://")):
        return "a link"
    width, height = dimensions(data) or (0, 0)
    return f"{kind_of(data)} {width}x{height} {len(data)} bytes {digest[:12]}"
