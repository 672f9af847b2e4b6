"""Options of own limits and metadata, which keys and teams share."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from .terminal import whole_number

Requests = Annotated[
    str | None, typer.Option(metavar="RATE", help="Request rate in place of the plan's: 60/min.")
]
Burst = Annotated[
    int | None,
    typer.Option(
        parser=whole_number(0),
        metavar="INTEGER",
        help="Requests beyond that rate that may be saved up.",
    ),
]
Tokens = Annotated[
    str | None, typer.Option(metavar="RATE", help="Token rate in place of the plan's: 200k/min.")
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        parser=whole_number(1),
        metavar="INTEGER",
        help="Requests in flight at once, in place of the plan's.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes of files, in place of the plan's: 5GiB."),
]
OnExcess = Annotated[
    Literal["reject", "throttle"] | None,
    typer.Option(help="Over a rate: refuse a request, or let it wait for its turn."),
]
Windows = Annotated[
    list[str] | None,
    typer.Option(
        "--window",
        metavar="LENGTH=CREDITS",
        help="Spend cap in place of the plan's: 5h=5.00; may be repeated.",
    ),
]
Overflow = Annotated[
    Literal["none", "credits"] | None,
    typer.Option(help="Whether prepaid credits pay where no window does."),
]


Metadata = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="Metadata; may be repeated, 16 at most."),
]


def own_limits(
    requests: str | None,
    burst: int | None,
    tokens: str | None,
    concurrency: int | None,
    storage: str | None,
    on_excess: str | None,
    windows: Sequence[str] | None,
    overflow: str | None,
) -> dict[str, Any] | None:
    """The limits that were given, with the keys of a plan; None when none were."""
    given = {
        "requests": requests,
        "burst": burst,
        "tokens": tokens,
        "concurrency": concurrency,
        "storage": storage,
        "on_excess": on_excess,
        "windows": [_window(window) for window in windows] if windows else None,
        "overflow": overflow,
    }
    return {field: value for field, value in given.items() if value is not None} or None


def pairs(given: Sequence[str] | None) -> dict[str, str] | None:
    """Metadata of options; None when none were given."""
    found_pairs: dict[str, str] = {}
    for text in given or ():
        name, found, value = text.partition("=")
        if not found:
            sentence = f"expected a name and a text such as team=web, not {text!r}"
            raise typer.BadParameter(sentence, param_hint="--metadata")
        found_pairs[name.strip()] = value.strip()
    return found_pairs or None


def _window(text: str) -> dict[str, str]:
    length, found, cap = text.rpartition("=")
    if not found:
        sentence = f"expected a length and a cap such as 5h=5.00, not {text!r}"
        raise typer.BadParameter(sentence, param_hint="--window")
    return {"length": length.strip(), "credits": cap.strip()}
