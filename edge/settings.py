"""Read a configuration, check that its parts fit, and say everything that is wrong with it.

    load(path)            TOML or JSON file → Settings
    parse(mapping, dir)   the same from data
    demo_settings(env)    the built-in configuration of `penstock demo`

All raise `SettingsError`, which holds one sentence per fault, each with the path of its key.
Secrets and files that the configuration names are relative to its own folder; what Penstock writes
(`store`) is relative to the working directory.
"""

import json
import os
import string
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from .options import (
    ENDPOINT_OF_TAIL,
    Auth,
    Configuration,
    Endpoint,
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
from .strict import Reader
from .units import (
    Credits,
    Duration,
    HttpUrl,
    Location,
    Network,
    Rate,
    References,
    Secret,
    Size,
    Span,
    network,
)

__all__ = [
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
    "demo_settings",
    "load",
    "not_enforced",
    "parse",
    "slug",
]

_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
_WELL_KNOWN = ("admin", "changeme", "change-me", "default", "example", "password", "secret", "test")
_SQL = ("sqlite:///", "postgresql://", "postgres://")
_SERVED = ("chat.completions", "messages", "embeddings", "models")
_REMOTE = ("openai", "responses", "anthropic")


class Settings(Configuration, frozen=True, kw_only=True):
    """A configuration that was read and fits together.

    `written` holds the dotted paths, one or two keys long, that the operator wrote.
    """

    written: frozenset[str] = frozenset()

    @property
    def slug(self) -> str:
        """The brand as it stands in keys and model prefixes."""
        return slug(self.brand)


class SettingsError(ValueError):
    """A configuration that cannot be used; `faults` has one sentence for each reason."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def slug(brand: str) -> str:
    """`brand` in lower-case ASCII letters, digits and hyphens: "Claudin.io" → "claudinio"."""
    spaced = "".join("-" if c in " _-" else c for c in brand.lower() if c.isascii())
    kept = "".join(c for c in spaced if c.isalnum() or c == "-")
    return "-".join(part for part in kept.split("-") if part)


def load(
    path: str | os.PathLike[str],
    *,
    env: Mapping[str, str] = os.environ,
    server: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a file: TOML, or JSON when its name ends in `.json`.

    `server` holds values that go before the file's `[server]`, such as those of a command line.
    Raises SettingsError.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: is not UTF-8 text"]) from None
    except ValueError as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise SettingsError([f"{file}: is not {kind}: {error}"]) from None
    if server and isinstance(document, dict):
        table = document.get("server", {})
        if isinstance(table, dict):
            document["server"] = {**table, **server}
    return parse(document, file.resolve().parent, env=env)


def parse(
    document: object, directory: Path | None = None, *, env: Mapping[str, str] = os.environ
) -> Settings:
    """The settings in plain data with the keys of a configuration file. Raises SettingsError.

    directory: folder that `file:` secrets, `ca` and `client_cert` are relative to.
    """
    references = References(env, directory or Path.cwd())
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
    if faults := list(_misfits(configuration)):
        raise SettingsError(faults)
    fields = msgspec.structs.asdict(configuration)
    fields["routes"] = tuple(
        msgspec.structs.replace(route, endpoint=route.endpoint or _endpoint(route.path))
        for route in configuration.routes
    )
    return Settings(**fields, written=frozenset(_written(document)))


def demo_settings(env: Mapping[str, str], directory: Path) -> Settings:
    """The built-in configuration: simulator, SQLite in `directory`, counters in memory.

    A provider whose key is in `env` (OPENAI_API_KEY, ANTHROPIC_API_KEY) is an upstream too, with
    every model name of its families. OPENAI_BASE_URL and ANTHROPIC_BASE_URL move it elsewhere.
    Raises SettingsError when one of those is not usable.
    """
    upstreams: list[dict[str, Any]] = [{"name": "simulator", "dialect": "simulator"}]
    models: list[dict[str, Any]] = [
        {
            "id": "sim-1",
            "aliases": ["sim"],
            "name": "Simulator",
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
        "store": {"sql": f"sqlite:///{database}"},
        "upstreams": upstreams,
        "models": models,
        "log": {"format": "console"},
    }
    return parse(document, directory, env=env)


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


def not_enforced(settings: Settings) -> list[str]:
    """Sentences for what the operator wrote and this version accepts but does not act on."""
    return list(_idle(settings))


def _idle(settings: Settings) -> Iterator[str]:
    if any(path.startswith("limits.") for path in settings.written):
        yield "limits: rates per address are not enforced by this version"
    for n, plan in enumerate(settings.plans):
        if plan.requests or plan.burst or plan.tokens or plan.concurrency:
            yield f"plans[{n}]: the rates of plan {plan.id} are not enforced by this version"
        if plan.windows or plan.overflow != "none":
            yield f"plans[{n}]: the budget of plan {plan.id} is not enforced by this version"
    for n, upstream in enumerate(settings.upstreams):
        if upstream.dialect in ("responses", "claude-cli"):
            yield (
                f"upstreams[{n}]: dialect {upstream.dialect} is not spoken by this version; "
                f"models that {upstream.name} serves do not answer"
            )
    for n, model in enumerate(settings.models):
        if model.price is not None:
            yield f"models[{n}].price: {model.id} is not charged for by this version"
        if model.fallbacks:
            yield f"models[{n}].fallbacks: this version does not fall back; {model.id} fails alone"
        if len(model.targets) > 1:
            yield f"models[{n}].targets: this version asks only {model.targets[0]}"
    for n, route in enumerate(settings.routes):
        if route.dialect == "responses" or route.endpoint not in _SERVED:
            yield f"routes[{n}]: {route.path} is not answered by this version"
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


def _misfits(configuration: Configuration) -> Iterator[str]:
    """What is wrong although each value by itself can be read."""
    if not slug(configuration.brand):
        yield "brand: expected at least one ASCII letter or digit"
    elif not configuration.brand.isprintable():
        yield "brand: expected printable text on one line"
    yield from _service_misfits(configuration)
    plans = {plan.id for plan in configuration.plans}
    yield from _twice("plans", "id", (plan.id for plan in configuration.plans))
    yield from _twice("upstreams", "name", (one.name for one in configuration.upstreams))
    for n, upstream in enumerate(configuration.upstreams):
        for key, sentence in _upstream_misfits(upstream):
            yield f"upstreams[{n}].{key}: {sentence}"
    yield from _model_misfits(configuration, plans)
    yield from _twice("routes", "path", (route.path for route in configuration.routes))
    for n, route in enumerate(configuration.routes):
        if route.endpoint is None and _endpoint(route.path) is None:
            known = ", ".join(ENDPOINT_OF_TAIL)
            yield f"routes[{n}].endpoint: is missing; {route.path} ends in none of {known}"


def _service_misfits(configuration: Configuration) -> Iterator[str]:
    server, store, auth = configuration.server, configuration.store, configuration.auth
    for n, origin in enumerate(server.cors_origins):
        if origin != "*" and not _is_origin(origin):
            yield (
                f'server.cors_origins[{n}]: expected an origin such as "https://app.example.com" '
                f'or "*", found "{origin}"'
            )
    if not server.body_timeout:
        yield "server.body_timeout: expected more than 0 seconds"
    file = store.sql.removeprefix("sqlite:///")
    if not store.sql.startswith(_SQL) or not file or (file != store.sql and set(file) & set("?:")):
        yield 'store.sql: expected "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE"'
    redis = store.counters.startswith(("redis://", "rediss://", "unix://"))
    if store.counters != "memory" and not redis:
        yield 'store.counters: expected "memory" or "redis://HOST:PORT/0"'
    elif server.workers > 1 and not redis:
        yield (
            f"server.workers: {server.workers} workers need Redis to count limits together; set "
            'store.counters = "redis://HOST:6379/0", or server.workers = 1'
        )
    if not store.objects.startswith(("file:", "s3://", "gs://", "az://")):
        yield 'store.objects: expected "file:FOLDER" or "s3://BUCKET/PREFIX"'
    if auth.admin_token is not None:
        token = auth.admin_token.reveal()
        letters = token.lower().strip("0123456789!-_. ")
        if len(token) < 16:
            yield "auth.admin_token: expected at least 16 characters"
        elif letters in _WELL_KNOWN or len(set(token)) < 6:
            yield "auth.admin_token: is easily guessed; make one with `openssl rand -hex 32`"
        elif not _visible(token):
            yield "auth.admin_token: expected visible ASCII characters without spaces"


def _upstream_misfits(upstream: Upstream) -> Iterator[tuple[str, str]]:
    remote = upstream.dialect in _REMOTE
    if remote and upstream.base_url is None:
        yield "base_url", f"is missing; dialect {upstream.dialect} needs it"
    if not remote:
        for key in ("base_url", "api_key", "ca", "client_cert", "proxy"):
            if getattr(upstream, key) is not None:
                yield key, f"has no meaning for dialect {upstream.dialect}"
    if upstream.api_key is not None and not _visible(upstream.api_key.reveal()):
        yield "api_key", "expected visible ASCII characters without spaces or line ends"
    seen: set[str] = set()
    for name, value in upstream.headers.items():
        key = f"headers.{name}"
        text = value.reveal()
        if not name or not _TOKEN.issuperset(name):
            yield key, "is not a header name (RFC 9110 token)"
        elif name.lower() in _OWN_HEADERS:
            yield key, "is set by the transport itself"
        elif name.lower() in seen:
            yield key, "is written twice in different cases"
        if not text.isascii() or not text.isprintable():
            yield key, "expected printable ASCII characters without line ends as its value"
        seen.add(name.lower())
    for key in ("connect_timeout", "first_token_timeout", "idle_timeout", "total_timeout"):
        if not getattr(upstream, key):
            yield key, "expected more than 0 seconds"
    if upstream.transport == "native":
        for key in ("client_cert", "proxy"):
            if getattr(upstream, key) is not None:
                yield key, 'needs transport = "httpx"'
    if upstream.proxy is not None and not upstream.proxy.reveal().startswith(
        ("http://", "https://", "socks5://")
    ):
        yield "proxy", 'expected a URL such as "http://proxy.example.com:3128"'


def _model_misfits(configuration: Configuration, plans: set[str]) -> Iterator[str]:
    upstreams = {upstream.name for upstream in configuration.upstreams}
    owners: dict[str, str] = {}
    for n, model in enumerate(configuration.models):
        for key, name in _names(n, model):
            if name in owners:
                yield f'{key}: "{name}" is also {owners[name]}'
            owners.setdefault(name, key)
    for n, model in enumerate(configuration.models):
        wild = model.id.endswith("*")
        if wild and model.aliases:
            yield f"models[{n}].aliases: a model whose id ends in * has none"
        for m, target in enumerate(model.targets):
            upstream, _, name = target.partition("/")
            if upstream not in upstreams:
                known = ", ".join(sorted(upstreams)) or "none"
                yield f"models[{n}].targets[{m}]: unknown upstream {upstream}; known: {known}"
            if name.endswith("*") and not wild:
                yield f"models[{n}].targets[{m}]: ends in *, but the id {model.id} does not"
        for m, fallback in enumerate(model.fallbacks):
            if fallback not in owners:
                yield f"models[{n}].fallbacks[{m}]: unknown model {fallback}"
            elif fallback == model.id or fallback in model.aliases:
                yield f"models[{n}].fallbacks[{m}]: {fallback} is this model itself"
        for m, plan in enumerate(model.plans):
            if plan not in plans:
                yield f"models[{n}].plans[{m}]: unknown plan {plan}"
    for kind in ("image", "audio", "video"):
        describer = getattr(configuration.media, kind)
        if describer is not None and describer not in owners:
            yield f"media.{kind}: unknown model {describer}"


def _names(n: int, model: Model) -> Iterator[tuple[str, str]]:
    yield f"models[{n}].id", model.id
    for m, alias in enumerate(model.aliases):
        yield f"models[{n}].aliases[{m}]", alias


def _twice(table: str, key: str, values: Iterable[str]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f'{table}: {count} entries have the {key} "{value}"; expected one'


def _endpoint(path: str) -> Endpoint | None:
    tails = [tail for tail in ENDPOINT_OF_TAIL if path.endswith(tail)]
    return ENDPOINT_OF_TAIL[max(tails, key=len)] if tails else None


def _visible(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_origin(text: str) -> bool:
    scheme, _, host = text.partition("://")
    return (
        scheme in ("http", "https")
        and bool(host)
        and _visible(host)
        and not set(host) & set("/?#@")
    )
