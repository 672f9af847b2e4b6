"""Load a configuration: read, decode and check it, and report every fault at once.

    load(path)            TOML or JSON file → Settings
    parse(mapping, dir)   the same from data
    demo_settings(env)    the built-in configuration of `penstock demo`

All raise `SettingsError` with one sentence per fault, each with the path of its key. Relative paths
of secrets, certificates and `store` are relative to the folder of the file.
"""

import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .dialects.openai_models import is_openai
from .fit import allowance_faults, endpoint_of, faults_of, slug, unpriced
from .options import (
    Allowance,
    Auth,
    Configuration,
    Errors,
    Limits,
    Log,
    Media,
    Model,
    Plan,
    Price,
    Route,
    Server,
    Store,
    Upstream,
    Window,
)
from .references import HttpUrl, Location, References, Secret
from .strict import Reader
from .uncharged import uncharged
from .units import (
    Credits,
    Duration,
    Network,
    Rate,
    Size,
    Span,
    network,
)

__all__ = [
    "Allowance",
    "Auth",
    "Configuration",
    "Credits",
    "Duration",
    "Errors",
    "HttpUrl",
    "Limits",
    "Location",
    "Log",
    "Media",
    "Model",
    "Network",
    "Plan",
    "Price",
    "Rate",
    "Route",
    "Secret",
    "Server",
    "Settings",
    "SettingsError",
    "Size",
    "Span",
    "Store",
    "Upstream",
    "Window",
    "advice",
    "demo_settings",
    "load",
    "not_enforced",
    "parse",
    "read_key_limits",
    "slug",
]


class Settings(Configuration, frozen=True, kw_only=True):
    """A loaded and checked configuration.

    written: dotted paths, one or two keys long, that the operator wrote.
    """

    written: frozenset[str] = frozenset()

    @property
    def longest_request(self) -> float:
        """Upper bound of the seconds that a request lasts."""
        return max((upstream.total_timeout for upstream in self.upstreams), default=0.0) + 60.0

    @property
    def keep_responses(self) -> float:
        """Seconds for which answers of the Responses API are stored; 0 stores none."""
        if self.store.responses_ttl is not None:
            return self.store.responses_ttl
        return 0.0 if self.auth.mode == "none" else _KEEP

    @property
    def slug(self) -> str:
        """The brand as part of keys and model prefixes."""
        return slug(self.brand)


class SettingsError(ValueError):
    """A configuration that cannot be used. faults: one sentence for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def decoded(text: str, file: Path) -> Any:
    """The data in the text of `file`: TOML, or JSON when its name ends in `.json`.

    Raises ValueError for other text.
    """
    try:
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def load(
    path: str | os.PathLike[str],
    *,
    env: Mapping[str, str] = os.environ,
    server: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a file, see `decoded`.

    server: values that replace those of the file's `[server]`, such as options of a command line.
    Raises SettingsError.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        document = decoded(text, file)
    except OSError as error:
        raise SettingsError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: is not UTF-8 text"]) from None
    except ValueError as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise SettingsError([f"{file}: is not {kind}: {error}"]) from None
    if not document:
        raise SettingsError([f"{file}: is empty; expected at least one of upstreams and models"])
    if server and isinstance(document, dict):
        table = document.get("server", {})
        if isinstance(table, dict):
            document["server"] = {**table, **server}
    return parse(document, file.resolve().parent, env=env)


def parse(
    document: object, directory: Path | None = None, *, env: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of plain data with the keys of a configuration file. Raises SettingsError.

    directory: base of relative paths; the working directory unless given.
    """
    directory = directory or Path.cwd()
    references = References(env, directory)
    reader = Reader(
        {
            Duration: Duration.parse,
            Size: Size.parse,
            Rate: Rate.parse,
            Credits: Credits.parse,
            Span: Span.parse,
            HttpUrl: HttpUrl.parse,
            Network: network,
            Secret: references.secret,
            Location: references.location,
            Path: references.existing,
        }
    )
    configuration = reader.read(Configuration, document)
    if configuration is None:
        raise SettingsError(reader.faults)
    if faults := list(faults_of(configuration)):
        raise SettingsError(faults)
    fields = msgspec.structs.asdict(configuration)
    fields["store"] = _stored_under(configuration.store, directory)
    fields["routes"] = tuple(
        msgspec.structs.replace(route, endpoint=route.endpoint or endpoint_of(route.path))
        for route in configuration.routes
    )
    return Settings(**fields, written=frozenset(_written(document)))


def _stored_under(store: Store, directory: Path) -> Store:
    return msgspec.structs.replace(
        store,
        sql=store.sql.under(directory),
        objects=store.objects.under(directory),
        journal=str(directory / Path(store.journal).expanduser()),
    )


def demo_settings(env: Mapping[str, str], directory: Path) -> Settings:
    """The built-in configuration: simulator, SQLite in `directory`, counters in memory.

    A provider whose key is in `env` (OPENAI_API_KEY, ANTHROPIC_API_KEY) is an upstream too, with
    every model name of its families. OPENAI_BASE_URL and ANTHROPIC_BASE_URL set its base URL.
    Raises SettingsError when one of these variables cannot be used.
    """
    upstreams: list[dict[str, Any]] = [{"name": "simulator", "dialect": "simulator"}]
    models: list[dict[str, Any]] = [
        {
            "id": "sim-1",
            "aliases": ["sim"],
            "display_name": "Simulator",
            "context": 200_000,
            "max_output": 32_000,
            "modalities": ["text", "image"],
            "targets": ["simulator/sim-1"],
        }
    ]
    for provider in _PROVIDERS:
        if env.get(provider.key):
            upstreams.append(
                {
                    "name": provider.name,
                    "dialect": provider.name,
                    "base_url": _versioned(env.get(provider.url) or provider.base_url),
                    "api_key": f"env:{provider.key}",
                }
            )
            models += [
                {"id": id_, "targets": [f"{provider.name}/{id_ if id_[-1] != '*' else '*'}"]}
                for id_ in provider.models
            ]
    database = directory.resolve() / "penstock.db"
    document = {
        "store": {"sql": f"sqlite:///{database}", "journal": f"{database.parent}/journal"},
        "upstreams": upstreams,
        "models": models,
        "log": {"format": "console"},
    }
    return parse(document, directory, env=env)


def read_key_limits(document: object, path: str = "limits") -> Allowance:
    """The limits of a key: the settings of a plan without its id. Raises SettingsError."""
    reader = Reader(
        {
            Duration: Duration.parse,
            Rate: Rate.parse,
            Credits: Credits.parse,
            Span: Span.parse,
        }
    )
    allowance = reader.read(Allowance, document, path)
    if allowance is None:
        raise SettingsError(reader.faults)
    if faults := list(allowance_faults(allowance, path)):
        raise SettingsError(faults)
    return allowance


def _versioned(url: str) -> str:
    # The Anthropic SDK reads ANTHROPIC_BASE_URL without the version, OpenAI's with it.
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


class _Provider(msgspec.Struct, frozen=True):
    name: str
    key: str
    url: str
    base_url: str
    models: tuple[str, ...]


_KEEP = 30 * 86400.0
"""Default of `store.responses_ttl` with `auth.mode = "keys"`, in seconds."""
_PROVIDERS = (
    _Provider(
        "openai",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "https://api.openai.com/v1",
        (
            *("gpt-5.5", "gpt-5.4-mini", "text-embedding-3-small"),
            *("gpt-*", "o1*", "o3*", "o4*", "text-embedding-*"),
        ),
    ),
    _Provider(
        "anthropic",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "https://api.anthropic.com/v1",
        ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-*"),
    ),
)


def advice(settings: Settings) -> list[str]:
    """Notes about settings that are valid but may not be what the operator wants."""
    return [
        *(
            f"upstreams[{n}].base_url: {upstream.base_url} has no path; most providers need their "
            "version in it, such as /v1"
            for n, upstream in enumerate(settings.upstreams)
            if upstream.base_url is not None and not urlsplit(upstream.base_url).path
        ),
        *(
            f"models[{n}].max_output: is not given; for a request to {model.id} that sets no bound "
            "the price of 32,000 output tokens is set aside"
            for n, model in enumerate(settings.models)
            if model.price is not None
            and model.price.output
            and model.max_output is None
            and model.output_modalities != ("embedding",)
        ),
        *_nameless(settings),
        *unpriced(settings.models, settings.plans),
        *uncharged(settings.models, settings.plans),
    ]


def _nameless(settings: Settings) -> Iterator[str]:
    """Notes about deployments of Azure OpenAI whose model is not known."""
    azure = tuple(
        f"{upstream.name}/"
        for upstream in settings.upstreams
        if (urlsplit(upstream.base_url or "").hostname or "").endswith(".openai.azure.com")
    )
    for n, model in enumerate(settings.models):
        if model.family is not None or model.families:
            continue
        for target in model.targets:
            if target.startswith(azure) and not is_openai(target.partition("/")[2]):
                yield (
                    f"models[{n}].family: is not given; {target} may be any model, and requests "
                    'are not adapted to it. Name the deployed model, such as "gpt-5"'
                )
                break


def not_enforced(settings: Settings) -> list[str]:
    """Warnings about settings that this version accepts but does not use."""
    return list(_idle(settings))


def _idle(settings: Settings) -> Iterator[str]:
    if settings.media != Media():
        yield "media: this version does not turn media into text"
    if "store.objects" in settings.written:
        yield "store.objects: this version stores no files"


def _written(document: object) -> Iterator[str]:
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield str(key)
            if isinstance(value, Mapping):
                yield from (f"{key}.{inner}" for inner in value)
