"""`penstock demo`: a gateway without configuration that shows one streamed call."""

import asyncio
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import time

import httpx
import msgspec

from edge.config.demo import demo_settings
from edge.config.load import Settings
from edge.management import keys
from edge.runtime.run_folder import HeldFolder
from edge.server.serve import AddressInUse, serve
from edge.upstreams.local_media.demo import served_by
from edge.upstreams.local_media.upstream import check_installed
from edge.upstreams.local_model.model import local_model
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.sql.database import Database

from .demo_media import media_tour

_PORT = 8080
_DRAIN = 5.0
_PROMPT = "Say in a few words what a penstock does. [[sim rate=25]]"
_LOCAL_PROMPT = "Say in a few words what water is."
_LOCAL_TOKENS = 100

_HELLO = '"messages": [{"role": "user", "content": "Hello"}]'


def run(
    port: int | None = None,
    *,
    local: bool = False,
    media: bool = False,
    say: Callable[[str], object] = sys.stdout.write,
) -> None:
    """Serve the demo until interrupted. Its database is deleted at the end.

    port: None takes 8080, or any free one when that is in use.
    local: also serve a model that runs on this machine, and show that one.
    media: also serve speech, transcription and reading of pictures on this machine, and show them.
    Raises AddressInUse for a given port, LocalModelUnavailable, LocalMediaUnavailable.
    """
    with ExitStack() as stack:
        folder = HeldFolder("demo")
        stack.callback(folder.close)
        settings = demo_settings(os.environ, folder.path)
        if media:
            check_installed()
            settings = served_by(settings)
        if local:
            settings = stack.enter_context(local_model()).served_by(settings)
        key = asyncio.run(_key(settings))

        def show(url: str) -> None:
            with suppress(httpx.HTTPError):  # stopped while it was streaming
                for text in _tour(url, key, settings, local=local, media=media):
                    say(text)
                    sys.stdout.flush()

        try:
            serve(_at(settings, _PORT if port is None else port), on_ready=show)
        except AddressInUse:
            if port is not None:
                raise
            serve(_at(settings, 0), on_ready=show)


async def _key(settings: Settings) -> str:
    database = await Database.open(settings.store.sql)
    try:
        _, secret = await keys.create(
            SqlKeyStore(database), settings.brand, name="demo", now=time()
        )
        return secret
    finally:
        await database.aclose()


def _at(settings: Settings, port: int) -> Settings:
    server = msgspec.structs.replace(settings.server, port=port, drain_delay=0, drain=_DRAIN)
    return msgspec.structs.replace(settings, server=server)


def _tour(url: str, key: str, settings: Settings, *, local: bool, media: bool) -> Iterator[str]:
    """Pieces of what the demo prints, as the call proceeds."""
    model = settings.models[0].id
    yield f"\n{settings.brand} is up at {url}\nA key for you:  {key}\n"
    yield f"\nA streamed chat completion from {model}, through the gateway:\n\n  "
    prompt = _LOCAL_PROMPT if local else _PROMPT
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": prompt}],
        **({"max_tokens": _LOCAL_TOKENS} if local else {}),
    }
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
        ) as response,
    ):
        if response.status_code != 200:
            response.read()
            yield f"{response.status_code} {response.text}\n"
            return
        for line in response.iter_lines():
            if line.startswith("data: {"):
                for choice in msgspec.json.decode(line[6:])["choices"]:
                    yield choice["delta"].get("content") or ""
        yield "\n\nStamped on the response:\n\n"
        for name in ("x-request-id", "x-model-used", "server-timing"):
            yield f"  {name}: {response.headers[name]}\n"
    if media:
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(trust_env=False, timeout=120, headers=headers) as client:
            yield from media_tour(client, url, model)
    yield textwrap.dedent(f"""
        Try it yourself:

          curl -N {url}/v1/chat/completions \\
            -H "Authorization: Bearer {key}" \\
            -H "Content-Type: application/json" \\
            -d '{{"model": "{model}", "stream": true, {_HELLO}}}'

          curl -N {url}/v1/messages \\
            -H "x-api-key: {key}" \\
            -H "anthropic-version: 2023-06-01" \\
            -H "Content-Type: application/json" \\
            -d '{{"model": "{model}", "max_tokens": 256, "stream": true, {_HELLO}}}'

        Models:  {", ".join(one.id for one in settings.models)}
        Page:    {url}/
        Sign in: {url}/app (with the key)

        """)
    yield f"ready {url}\nServing until Ctrl-C.\n"
