"""The demo of a profile: its configuration without keys, and what it shows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from time import time
from typing import Any

from edge.config import profiles
from edge.config.load import Settings, parse
from edge.config.simulated import LocalModels, Simulated, simulated
from edge.management import keys, money
from edge.upstreams.local_model.model import LocalModel

from .streamed_call import streamed_call
from .terminal import Stores, with_stores

_PACE = " [[sim rate=25]]"
"""Directive that makes a simulator slow enough to watch."""
_LOCAL_TOKENS = 100
_ANSWERS = (
    ("real", "real"),
    ("local", "models on this machine"),
    ("simulated", "simulated"),
)
"""What answers for an upstream, by the field of `Simulated` that has it."""


class ProfileDemo:
    """A profile over what answers for its upstreams.

    directory: for all that it keeps. local: the models of this machine. Raises UnknownProfile,
    SettingsError.
    """

    def __init__(
        self, name: str, env: Mapping[str, str], directory: Path, local: LocalModels
    ) -> None:
        self._name = name
        self._tour = profiles.tour(name)
        self._served = simulated(profiles.document(name), env, local)
        self._local = set(local.text.values())
        self.settings = _settings(self._served, env, directory)

    def key(self) -> str:
        """A new key with what the tour needs, or "" where none is needed."""
        settings, tour = self.settings, self._tour
        if settings.auth.mode == "none":
            return ""

        async def create(stores: Stores) -> str:
            now = time()
            key, secret = await keys.create(
                stores.keys, settings.key_prefixes, name="demo", owner=tour.owner, now=now
            )
            if tour.credits:
                granted = money.amount(tour.credits)
                await money.credit(stores.ledger, stores.audit, key, granted, now=now)
            return secret

        return with_stores(settings, create, create=True, quiet=True)

    def show(self, url: str, key: str) -> Iterator[str]:
        """Pieces of what the demo prints, as its call proceeds. Raises HTTPError."""
        yield f"\n{self.settings.brand} (profile {self._name}) is up at {url}\n"
        yield f"A key for you:  {key}\n" if key else "It takes no key.\n"
        yield "\nUpstreams:\n\n"
        yield from self._upstreams()
        first = self._tour.first
        yield f"\n{first.says}, POST {first.path}:\n\n  "
        headers = {"authorization": f"Bearer {key}"} if key else {}
        shown = (*first.shown, "x-fallback-from")  # who failed, where one did
        yield from streamed_call(f"{url}{first.path}", self._body(), headers, shown)
        yield "\nTry it yourself:\n"
        for command in self._tour.commands:
            lines = command.run.strip().replace("{url}", url).replace("{key}", key).splitlines()
            yield f"\n  # {command.says}\n"
            yield from (f"  {line}\n".replace("  \n", "\n") for line in lines)
        yield f"\nPage:    {url}/\n"
        if key:
            yield f"Sign in: {url}/app (with the key)\n"
        yield f"The configuration: penstock profile {self._name}\n"

    def _upstreams(self) -> Iterator[str]:
        served = self._served
        for name in (*served.real, *served.missing):
            answers = [text for names, text in _ANSWERS if name in getattr(served, names)]
            unset = served.missing.get(name, ())
            why = f" ({' and '.join(unset)} not set)" if unset else ""
            yield f"  {name}: {' and '.join(answers) or 'not used'}{why}\n"

    def _body(self) -> dict[str, Any]:
        first = self._tour.first
        (model,) = (one for one in self.settings.models if first.model in (one.id, *one.aliases))
        served = {target.partition("/")[0] for target in model.targets}
        prompt, bounds = first.prompt, {}
        if served <= self._served.missing.keys():
            prompt += _PACE
        elif set(model.targets) <= self._local:
            bounds = {"max_tokens": _LOCAL_TOKENS}
        messages = [{"role": "user", "content": prompt}]
        body = {"model": first.model, "stream": True, "messages": messages}
        return {**body, **first.members, **bounds}


def local_models(model: LocalModel | None, *, media: bool) -> LocalModels:
    """What this machine serves. media: speech, transcription and reading of pictures too."""
    upstreams = model.upstreams() if model is not None else []
    text = model.targets() if model is not None else {}
    if not media:
        return LocalModels((*upstreams,), text)
    upstreams.append({"name": "local-media", "dialect": "local-media"})
    return LocalModels(
        (*upstreams,),
        text,
        speech="local-media/voice",
        transcript="local-media/whisper-tiny",
        reader="local-media/ocr",
    )


def _settings(served: Simulated, env: Mapping[str, str], directory: Path) -> Settings:
    """The settings with stores in `directory`, one worker, and a log for people."""
    document = served.document
    directory = directory.resolve()
    left_out = ("workers", "public_url")
    server = {
        key: value for key, value in document.get("server", {}).items() if key not in left_out
    }
    store = {"sql": f"sqlite:///{directory}/penstock.db", "journal": f"{directory}/journal"}
    log = {**document.get("log", {}), "format": "console"}
    return parse({**document, "server": server, "store": store, "log": log}, directory, env=env)
