"""Changes of a form for one target: its model, and the settings of its upstream."""

from collections.abc import Iterable, Mapping, Sequence

from edge.media.forms import FormBody, FormField, Part, form_fields, plain_name
from edge.upstreams.provider import Provider


def with_fields(parts: Iterable[Part], values: Mapping[str, str]) -> list[Part]:
    """`parts` with one field of each name of `values`, in the place of the first of that name, or
    in front."""
    left = dict(values)
    made: list[Part] = []
    for part in parts:
        if not isinstance(part, FormField) or part.name not in values:
            made.append(part)
        elif part.name in left:
            made.append(FormField(part.name, left.pop(part.name)))
    return [*(FormField(name, value) for name, value in left.items()), *made]


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
