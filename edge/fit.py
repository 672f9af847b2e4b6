"""Cross-field configuration checks: faults that no single value shows.

Each function yields sentences that begin with the path of the key at fault. Nothing here reads
files or changes anything.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from .endpoints import ENDPOINTS, TAILS
from .options import Allowance, Configuration, Model, Plan, Upstream

_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
_WELL_KNOWN = ("admin", "changeme", "change-me", "default", "example", "password", "secret", "test")
_PLAIN = Upstream(name="plain", dialect="simulator")
_SQL = ("sqlite:///", "postgresql://", "postgres://")
_REMOTE = ("openai", "responses", "anthropic")
_ASKED = frozenset(("model", "stream", *(name for row in ENDPOINTS for name in row.required)))
"""Members of the caller that no upstream setting may replace or remove."""
BOUNDS = frozenset(name for row in ENDPOINTS for name in row.bounds)
"""Members that reservations are computed from; they are sent as the caller wrote them."""
_UNMADE = _ASKED | BOUNDS | {"n", "best_of", "n_predict", "max_new_tokens", "stream_options"}
"""Members that `extra_body` must not set."""
_FOREIGN_REFERENCE = re.compile(
    r"os\.environ|process\.env|env\.[A-Z]|\$\{?\w+\}?$|\$\(|\{\{|\{env|%\w+%$|<[^>]*>$"
    r"|(?:vault|secret|secretref|ssm|op|gcpsm|awssm)://|(?:ENV|Env):|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$"
)
"""References to variables and vaults in the syntax of other programs. Sent as a key, the provider
would refuse each request."""
_POSITIVE_DURATIONS = (
    ("fallback", "deadline"),
    ("fallback", "max_backoff"),
    ("breaker", "window"),
    ("breaker", "open_for"),
    ("breaker", "max_open_for"),
)
"""Tables and keys of durations that must be more than 0."""
_A_NAME = "expected an id or alias of models"


def slug(brand: str) -> str:
    """`brand` in lower-case ASCII letters, digits and hyphens: "Claudin.io" → "claudinio"."""
    spaced = "".join("-" if c in " _-" else c for c in brand.lower() if c.isascii())
    kept = "".join(c for c in spaced if c.isalnum() or c == "-")
    return "-".join(part for part in kept.split("-") if part)


def faults_of(configuration: Configuration) -> Iterator[str]:
    """A sentence for each fault of a configuration whose values can all be read."""
    if not slug(configuration.brand):
        yield "brand: expected at least one ASCII letter or digit"
    elif not configuration.brand.isprintable():
        yield "brand: expected printable text on one line"
    yield from _service_faults(configuration)
    plans = {plan.id for plan in configuration.plans}
    for n, plan in enumerate(configuration.plans):
        yield from allowance_faults(plan, f"plans[{n}]")
    if configuration.auth.default_plan is not None and configuration.auth.default_plan not in plans:
        known = ", ".join(sorted(plans)) or "none"
        yield f"auth.default_plan: unknown plan {configuration.auth.default_plan}; known: {known}"
    yield from _twice("plans", "id", (plan.id for plan in configuration.plans))
    yield from _twice("upstreams", "name", (one.name for one in configuration.upstreams))
    for n, upstream in enumerate(configuration.upstreams):
        for key, sentence in _upstream_faults(upstream):
            yield f"upstreams[{n}].{key}: {sentence}"
    yield from _model_faults(configuration, plans)
    yield from _twice("routes", "path", (route.path for route in configuration.routes))
    for n, route in enumerate(configuration.routes):
        if route.endpoint is None and endpoint_of(route.path) is None:
            known = ", ".join(TAILS)
            yield f"routes[{n}].endpoint: is missing; {route.path} ends in none of {known}"


def _service_faults(configuration: Configuration) -> Iterator[str]:
    server, store, auth = configuration.server, configuration.store, configuration.auth
    for n, origin in enumerate(server.cors_origins):
        if origin != "*" and not _is_origin(origin):
            yield (
                f'server.cors_origins[{n}]: expected an origin such as "https://app.example.com" '
                f'or "*", found "{origin}"'
            )
    for key in ("upload_idle_timeout", "disconnect_drain"):
        if not getattr(server, key):
            yield f"server.{key}: expected more than 0 seconds"
    if not store.responses_max_size:
        yield (
            "store.responses_max_size: expected more than 0 bytes; "
            "store.responses_ttl = 0 keeps none"
        )
    if not store.counters_timeout:
        yield "store.counters_timeout: expected more than 0 seconds"
    if not configuration.limits.throttle_max_wait:
        yield (
            "limits.throttle_max_wait: expected more than 0 seconds; "
            'on_excess = "reject" never waits'
        )
    if not configuration.limits.throttle_max_memory:
        yield "limits.throttle_max_memory: expected more than 0 bytes"
    for table, key in _POSITIVE_DURATIONS:
        if not getattr(getattr(configuration, table), key):
            yield f"{table}.{key}: expected more than 0 seconds"
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
    elif redis and not _is_redis(store.counters):
        yield (
            'store.counters: expected "redis://HOST:PORT/0"; write / ? # @ : % in a password as '
            "%2F %3F %23 %40 %3A %25"
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


def _is_redis(url: str) -> bool:
    """Whether a URL of Redis has no unescaped special character in its password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if "@" in parts.path + parts.fragment or (parts.netloc and "@" in parts.query):
        return False
    return parts.scheme == "unix" or parts.path.strip("/").isdigit() or parts.path in ("", "/")


def allowance_faults(allowance: Allowance, path: str) -> Iterator[str]:
    """Faults of a plan or of the limits of a key, found at `path`."""
    if allowance.burst and allowance.requests is None:
        yield f"{path}.burst: is not used without {path}.requests; set a rate or remove it"
    limited = allowance.requests or allowance.tokens or allowance.concurrency
    if allowance.on_excess == "throttle" and not limited:
        yield (
            f"{path}.on_excess: is not used without a limit; set {path}.requests, tokens or "
            "concurrency, or remove it"
        )
    seen: set[str] = set()
    for n, window in enumerate(allowance.windows):
        if str(window.length) in seen:
            yield (
                f"{path}.windows[{n}].length: another window has the length {window.length}; "
                "expected one window of each length"
            )
        seen.add(str(window.length))


def _upstream_faults(upstream: Upstream) -> Iterator[tuple[str, str]]:
    remote = upstream.dialect in _REMOTE
    if remote and upstream.base_url is None:
        yield "base_url", f"is missing; dialect {upstream.dialect} needs it"
    if not remote:
        for key in ("base_url", "api_key", "ca", "client_cert", "proxy"):
            if getattr(upstream, key) is not None:
                yield key, f"is not used by dialect {upstream.dialect}; remove it"
    yield from _client_faults(upstream)
    if upstream.base_url is not None:
        path = urlsplit(upstream.base_url).path
        end = next((end for end in TAILS if path.endswith(end)), None)
        if end is not None:
            yield "base_url", f"ends in the endpoint {end}; expected what stands in front of it"
    if upstream.api_key is not None:
        key = upstream.api_key.reveal()
        if _FOREIGN_REFERENCE.match(key):
            yield (
                "api_key",
                'looks like a reference that another program resolves; write "env:NAME" or '
                '"file:PATH"',
            )
        elif not _visible(key):
            yield "api_key", "expected visible ASCII characters without spaces or line ends"
    yield from _body_faults(upstream)
    if upstream.auth_header is not None and upstream.api_key is None:
        yield "auth_header", "is not used without api_key; set the key or remove it"
    for name, value in upstream.query.items():
        if not name or not name.isprintable():
            yield f"query.{name}", "expected a printable name"
        if not value.reveal().isprintable():
            yield f"query.{name}", "expected printable text without line ends as its value"
    seen: set[str] = set()
    for name, value in upstream.headers.items():
        key = f"headers.{name}"
        text = value.reveal()
        if not name or not _TOKEN.issuperset(name):
            yield key, "expected a header name (RFC 9110 token)"
        elif name.lower() in _OWN_HEADERS:
            yield key, "is set by Penstock itself; remove it"
        elif name.lower() in seen:
            yield key, "is there in another case too; keep one of them"
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


def _body_faults(upstream: Upstream) -> Iterator[tuple[str, str]]:
    """Faults of `extra_body` and `drop_body`."""
    for name, value in upstream.extra_body.items():
        key = f"extra_body.{name}"
        if name.casefold() in _UNMADE:
            yield key, "cannot be set here: the cost of a request is computed from the caller's own"
        elif name in upstream.drop_body:
            yield key, "is in drop_body too; keep one of them"
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            yield key, "expected a JSON value: no date, nan or inf"
    for n, name in enumerate(upstream.drop_body):
        if name.casefold() in _ASKED | BOUNDS:
            key = f"drop_body[{n}]"
            yield key, f"{name} cannot be dropped: the cost of a request is computed from it"


def _client_faults(upstream: Upstream) -> Iterator[tuple[str, str]]:
    """Faults of settings that only the dialect claude-cli has, or does not have."""
    if upstream.dialect == "claude-cli":
        for key in ("headers", "query", "extra_body", "drop_body"):
            if getattr(upstream, key):
                yield key, f"is not used by dialect {upstream.dialect}; remove it"
    else:
        for key in ("command", "environment", "max_processes", "max_waiting", "prewarm"):
            if getattr(upstream, key) != getattr(_PLAIN, key):
                yield key, f"is not used by dialect {upstream.dialect}; remove it"
    for name, value in upstream.environment.items():
        if not name.isascii() or not name.isidentifier():
            yield f"environment.{name}", "expected the name of a variable: letters, digits and _"
        if "\0" in value.reveal():
            yield f"environment.{name}", "expected a value without NUL"


def _model_faults(configuration: Configuration, plans: set[str]) -> Iterator[str]:
    upstreams = {upstream.name for upstream in configuration.upstreams}
    owners: dict[str, str] = {}
    for n, model in enumerate(configuration.models):
        for key, name in _names(n, model):
            if name in owners:
                yield f'{key}: "{name}" is also {owners[name]}; expected each name once'
            owners.setdefault(name, key)
    for n, allowance in enumerate(configuration.plans):
        for key in ("on_budget", "on_rate_limit"):
            instead = getattr(allowance, key)
            if instead is not None and instead not in owners:
                yield f"plans[{n}].{key}: unknown model {instead}; {_A_NAME}"
    for n, model in enumerate(configuration.models):
        wild = model.id.endswith("*")
        if wild and model.aliases:
            yield f"models[{n}].aliases: an id that ends in * has no aliases; remove them"
        for m, target in enumerate(model.targets):
            upstream, _, name = target.partition("/")
            if upstream not in upstreams:
                known = ", ".join(sorted(upstreams)) or "none"
                yield f"models[{n}].targets[{m}]: unknown upstream {upstream}; known: {known}"
            if name.endswith("*") and not wild:
                yield (
                    f"models[{n}].targets[{m}]: ends in *, but the id {model.id} does not; write "
                    "the whole name of the upstream's model"
                )
        for m, fallback in enumerate(model.fallbacks):
            if fallback not in owners:
                yield f"models[{n}].fallbacks[{m}]: unknown model {fallback}; {_A_NAME}"
            elif fallback == model.id or fallback in model.aliases:
                yield (
                    f"models[{n}].fallbacks[{m}]: {fallback} is this model itself; expected another"
                )
        if model.weights and model.load_balancing != "weight":
            yield (
                f'models[{n}].weights: is used only with load_balancing = "weight"; set that or '
                "remove it"
            )
        elif model.weights and len(model.weights) != len(model.targets):
            yield (
                f"models[{n}].weights: expected {len(model.targets)} numbers, one for each target, "
                f"found {len(model.weights)}"
            )
        if model.families and model.family is not None:
            yield f"models[{n}].families: is not used beside family; keep one of them"
        elif model.families and len(model.families) != len(model.targets):
            yield (
                f"models[{n}].families: expected {len(model.targets)} names, one for each target, "
                f"found {len(model.families)}"
            )
        for m, plan in enumerate(model.plans):
            if plan not in plans:
                yield f"models[{n}].plans[{m}]: unknown plan {plan}"
    for kind in ("image", "audio", "video"):
        describer = getattr(configuration.media, kind)
        if describer is not None and describer not in owners:
            yield f"media.{kind}: unknown model {describer}; {_A_NAME}"


def unpriced(models: Sequence[Model], plans: Sequence[Plan]) -> Iterator[str]:
    """Warnings about models without a price, or without one for output, where budgets count money.

    Models that are free on purpose are left out: prices of 0, and models of `plans[].on_budget`.
    """
    free = {plan.on_budget for plan in plans}
    sold = any(model.price is not None for model in models)
    for n, model in enumerate(models):
        limited = [
            plan.id
            for plan in plans
            if (plan.windows or plan.overflow == "credits")
            and (not model.plans or plan.id in model.plans)
        ]
        if not (limited or sold) or not free.isdisjoint((model.id, *model.aliases)):
            continue
        whose = f"the budgets of {', '.join(limited)}" if limited else "the budget of any key"
        if model.price is None:
            yield (
                f"models[{n}].price: is not given; requests to {model.id} cost nothing, and "
                f"{whose} do not limit them. Give prices, of 0 where that is meant"
            )
        elif (
            model.price.input
            and not model.price.output
            and model.output_modalities != ("embedding",)
        ):
            yield (
                f"models[{n}].price.output: is not given; answers of {model.id} cost nothing, "
                f"however long, and {whose} do not limit them"
            )


def _names(n: int, model: Model) -> Iterator[tuple[str, str]]:
    yield f"models[{n}].id", model.id
    for m, alias in enumerate(model.aliases):
        yield f"models[{n}].aliases[{m}]", alias


def _twice(table: str, key: str, values: Iterable[str]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f'{table}: {count} entries have the {key} "{value}"; expected one'


def endpoint_of(path: str) -> str | None:
    """Endpoint of a route that names none: that of the longest known tail of its path."""
    tails = [tail for tail in TAILS if path.endswith(tail)]
    return TAILS[max(tails, key=len)] if tails else None


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
