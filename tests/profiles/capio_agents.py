"""Coding agents with the files that Capio shows, and a gateway that lacks a vendor."""

import json
from pathlib import Path
from typing import Any

from tests.clients.pasted import Desk
from tests.e2e.program import Gateway, Program

from .capio_snippets import HOST, KEY, openclaw_provider
from .system import EMBEDDED, Stores, document_of, pointed_at, serve_profile


def pasted(gateway: Gateway, text: str, secret: str = "") -> str:
    """A file or lines with the user's host and key."""
    for old, new in ((HOST, gateway.url), (KEY, secret)):
        if new:
            text = text.replace(old, new)
    return text


def write(desk: Desk, path: str, text: str) -> None:
    place = desk.place(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def openclaw_file(gateway: Gateway, desk: Desk, text: str, secret: str) -> None:
    """OpenClaw's file as shown, with the one thing that it lacks."""
    content = json.loads(pasted(gateway, text, secret)) | openclaw_provider(gateway.url)
    write(desk, "~/.openclaw/openclaw.json", json.dumps(content, indent=2))


def openclaw_key(status: Any) -> str:
    """The key of our provider, of which it shows both ends."""
    (capio,) = [one for one in status["auth"]["providers"] if one["provider"] == "capio"]
    assert capio["effective"]["kind"] == "env"
    shown: str = capio["effective"]["detail"]
    return shown


def out_of_order(
    folder: Path, simulator: Program, stores: Stores = EMBEDDED, *, fallbacks: bool
) -> Gateway:
    """A gateway that does not reach DeepSeek, and has no second target.

    fallbacks: whether it has those of the profile.
    """
    place = folder / "out-of-order"
    place.mkdir()
    document = document_of("capio")
    upstreams = [pointed_at(simulator.url, one, place) for one in document["upstreams"]]
    gone = {"base_url": "http://127.0.0.1:1/v1"}
    changes = {
        "upstreams": [{**one, **gone} if one["name"] == "deepseek" else one for one in upstreams],
        "models": [
            {
                **model,
                "targets": model["targets"][:1],
                "fallbacks": model["fallbacks"] if fallbacks else [],
            }
            for model in document["models"]
        ],
    }
    return serve_profile("capio", place, simulator, stores, changes=changes)
