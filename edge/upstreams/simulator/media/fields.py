"""The fields of a media request, sent as JSON or as a form."""

from typing import Any

import msgspec

from edge.untyped_json import decode_object
from edge.upstreams.simulator.account import StoredFile
from edge.upstreams.simulator.controls import Controls, take_directive
from edge.upstreams.simulator.form import SimulatedPart
from edge.upstreams.simulator.prompt import UNREADABLE, PromptRejected, rejected
from edge.upstreams.simulator.request import SimulatorRequest, directed

MediaFile = SimulatedPart | StoredFile


class MediaFields(msgspec.Struct, frozen=True):
    """Fields by name. text: the value of the text field, without directives."""

    model: str
    values: dict[str, Any]
    text: str
    controls: Controls

    def number(self, name: str, default: float) -> float:
        """A number, also one of a form. Raises PromptRejected."""
        value = self.values.get(name)
        if value is None:
            return default
        try:
            return float(value)
        except (TypeError, ValueError):
            raise PromptRejected(400, f"Invalid '{name}': expected a number.", name) from None

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number in a range. Raises PromptRejected."""
        value = self.number(name, default)
        if value != int(value) or not least <= value <= most:
            message = f"Invalid '{name}': expected an integer from {least} to {most}."
            raise PromptRejected(400, message, name)
        return int(value)

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        """One of the known values. Raises PromptRejected."""
        value = self.values.get(name, default)
        if value not in known:
            values = ", ".join(f"'{each}'" for each in known)
            message = f"Invalid value: '{value}'. Supported values are: {values}."
            raise PromptRejected(400, message, name, "invalid_value")
        return str(value)

    def switch(self, name: str) -> bool:
        """Whether a field is true, also as text of a form."""
        return self.values.get(name) in (True, "true", "True", "1")

    def texts(self, name: str) -> list[str]:
        """The values of a list, also of a single one."""
        value = self.values.get(name)
        if value is None:
            return []
        return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def read_fields(
    request: SimulatorRequest, text: str, *, takes: str, required: bool = True
) -> tuple[SimulatorRequest, MediaFields]:
    """The fields, and the request under the controls of its directive, which stands in `text`.

    takes: `json`, `form`, or `both`. Raises PromptRejected.
    """
    form = request.form
    if form is None and request.content_type.lower().startswith("multipart/form-data"):
        raise PromptRejected(400, "Could not parse multipart form.")
    if takes == "json" and form is not None:
        raise _unsupported(request, "application/json")
    if takes == "form" and form is None:
        raise _unsupported(request, "multipart/form-data")
    if form is not None:
        values = form.fields()
    else:
        try:
            values = decode_object(request.body)
        except UNREADABLE as error:
            raise rejected(error) from None
    plain, words = take_directive(str(values.get(text) or ""))
    for name in (text, "model") if required else ():
        if not isinstance(values.get(name), str) or not values[name]:
            raise PromptRejected(
                400,
                f"Missing required parameter: '{name}'.",
                name,
                "missing_required_parameter",
            )
    request = directed(request, words)
    fields = MediaFields(str(values.get("model") or ""), values, plain, request.controls)
    _refuse_unsupported(fields)
    return request, fields


def _refuse_unsupported(fields: MediaFields) -> None:
    for word in fields.controls.refuse:
        name, colon, value = word.partition(":")
        given = fields.values.get(name)
        if given is None or (colon and given != value):
            continue
        if not colon:
            raise PromptRejected(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        raise PromptRejected(
            400,
            f"Unsupported value: '{value}' is not supported with the '{name}' parameter.",
            name,
            "unsupported_value",
        )


def _unsupported(request: SimulatorRequest, expected: str) -> PromptRejected:
    given = request.content_type.partition(";")[0] or "none"
    return PromptRejected(
        415,
        f"Unsupported content type: '{given}'. This API method only accepts '{expected}' requests.",
        None,
        "unsupported_content_type",
    )
