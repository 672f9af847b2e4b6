"""Settings of an upstream, applied to a form: the target's model, `extra_body` and `drop_body`."""

from collections.abc import Iterable, Sequence

from edge.media.forms import FormBody, FormField, Part, form_fields, plain_name
from edge.upstreams.provider import Provider


def with_model(parts: Iterable[Part], model: str) -> list[Part]:
    """`parts` with the target's model in place of the caller's, or in front."""
    made: list[Part] = []
    placed = False
    for part in parts:
        if isinstance(part, FormField) and part.name == "model":
            if placed:
                continue
            part, placed = FormField("model", model), True
        made.append(part)
    return made if placed else [FormField("model", model), *made]


def with_form_settings(
    body: FormBody, provider: Provider, dropped: list[str], drop_params: frozenset[str]
) -> FormBody:
    """`Provider.with_body_settings` for a form."""
    if not provider.extra_body and not provider.drop_body and not drop_params:
        return body
    replaced = provider.drop_body.union(map(str.casefold, provider.extra_body), drop_params)
    kept: list[Part] = []
    notes: dict[str, None] = {}
    for part in body.parts:
        if _member(part.name).casefold() in replaced:
            notes[_member(part.name)] = None
        else:
            kept.append(part)
    for name in notes:
        whose = "model" if name.casefold() in drop_params else "upstream"
        dropped.append(f"`{name}`: a setting of the {whose}")
    # In front: servers read the fields before the file.
    added: Sequence[Part] = form_fields(provider.extra_body)
    return FormBody([*added, *kept])


def _member(name: str) -> str:
    """The member of the JSON request that a field belongs to: `svg` of `svg[model]`."""
    return plain_name(name).partition("[")[0]
