"""`penstock demo`: a gateway without configuration that shows one streamed call."""

import asyncio
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from time import time

import httpx
import msgspec

from edge.config.demo import demo_settings
from edge.config.load import Settings
from edge.config.profiles import text
from edge.dashboard.snippets import curl
from edge.dashboard.snippets.guides import key_block
from edge.dashboard.snippets.setup import Offered, Setup, key_variable
from edge.management import keys
from edge.runtime.run_folder import HeldFolder
from edge.server.serve import AddressInUse, serve
from edge.upstreams.local_media.demo import served_by
from edge.upstreams.local_media.upstream import check_installed
from edge.upstreams.local_model.model import local_model
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.sql.database import Database

from .demo_media import media_tour
from .demo_profile import ProfileDemo, local_models
from .streamed_call import streamed_call

_DRAIN = 5.0
_PROMPT = "Say in a few words what a penstock does. [[sim rate=25]]"
_LOCAL_PROMPT = "Say in a few words what water is."
_LOCAL_TOKENS = 100
_STAMPED = ("x-request-id", "x-model-used", "server-timing")


def run(
    port: int | None = None,
    *,
    profile: str | None = None,
    local: bool = False,
    media: bool = False,
    say: Callable[[str], object] = sys.stdout.write,
) -> None:
    """Serve the demo until interrupted. Its database is deleted at the end.

    port: None takes that of the configuration, or any free one when that is in use.
    profile: serve that profile instead of the built-in configuration.
    local: also serve a model that runs on this machine, and show that one.
    media: also serve speech, transcription and reading of pictures on this machine, and show them.
    Raises AddressInUse for a given port, UnknownProfile, LocalModelUnavailable,
    LocalMediaUnavailable.
    """
    with ExitStack() as stack:
        folder = HeldFolder("demo")
        stack.callback(folder.close)
        if media:
            check_installed()
        if profile is not None:
            text(profile)  # an unknown one is refused before a model starts
        model = stack.enter_context(local_model()) if local else None
        if profile is not None:
            models = local_models(model, media=media)
            demo = ProfileDemo(profile, os.environ, folder.path, models)
            settings, key, tour = demo.settings, demo.key(), demo.show
        else:
            settings = demo_settings(os.environ, folder.path)
            if media:
                settings = served_by(settings)
            if model is not None:
                settings = model.served_by(settings)
            key = asyncio.run(_key(settings))
            tour = partial(_tour, settings=settings, local=local, media=media)

        def show(url: str) -> None:
            with suppress(httpx.HTTPError):  # stopped while it was streaming
                for piece in chain(tour(url, key), [_serving(url)]):
                    say(piece)
                    sys.stdout.flush()

        try:
            serve(_at(settings, settings.server.port if port is None else port), on_ready=show)
        except AddressInUse:
            if port is not None:
                raise
            serve(_at(settings, 0), on_ready=show)


async def _key(settings: Settings) -> str:
    database = await Database.open(settings.store.sql)
    try:
        _, secret = await keys.create(
            SqlKeyStore(database), settings.key_prefixes, name="demo", now=time()
        )
        return secret
    finally:
        await database.aclose()


def _at(settings: Settings, port: int) -> Settings:
    server = msgspec.structs.replace(settings.server, port=port, drain_delay=0, drain=_DRAIN)
    return msgspec.structs.replace(settings, server=server)


def _serving(url: str) -> str:
    return f"\nready {url}\nServing until Ctrl-C.\n"


def _tour(url: str, key: str, settings: Settings, *, local: bool, media: bool) -> Iterator[str]:
    """Pieces of what the demo prints, as the call proceeds."""
    model = settings.models[0].id
    yield f"\n{settings.brand} is up at {url}\nA key for you:  {key}\n"
    yield f"\nA streamed chat completion from {model}, through the gateway:\n\n  "
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": _LOCAL_PROMPT if local else _PROMPT}],
        **({"max_tokens": _LOCAL_TOKENS} if local else {}),
    }
    headers = {"authorization": f"Bearer {key}"}
    yield from streamed_call(f"{url}/v1/chat/completions", body, headers, _STAMPED)
    if media:
        with httpx.Client(trust_env=False, timeout=120, headers=headers) as client:
            yield from media_tour(client, url, model)
    yield f"\nTry it yourself:\n\n{textwrap.indent(_to_paste(url, key, settings, model), '  ')}"
    yield textwrap.dedent(f"""
        Models:  {", ".join(one.id for one in settings.models if not one.internal)}
        Page:    {url}/
        Sign in: {url}/app (with the key)
        """)


def _to_paste(url: str, key: str, settings: Settings, model: str) -> str:
    """The dashboard's lines for a shell: the key, and a request in each dialect."""
    offered = Offered(model)
    setup = Setup(
        brand=settings.brand,
        slug=settings.slug,
        url=url,
        key=key,
        variable=key_variable(settings.slug),
        large=offered,
        model=offered,
        small=offered,
        models=(offered,),
    )
    return "\n".join(block.text for block in (key_block(setup), *curl.guide(setup).blocks))
