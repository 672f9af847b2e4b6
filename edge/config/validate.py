"""Cross-field configuration checks: faults that no single value shows.

Each function yields sentences that begin with the path of the key at fault. Nothing here reads
files or changes anything.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import urlsplit

from middlewares.stores.keys.base import slug
from middlewares.webhooks import secret_key

from .error_checks import error_faults
from .landing_checks import landing_faults
from .model import AllowanceConfig, Configuration, ModelConfig
from .route_checks import route_faults
from .upstream_checks import BOUNDS, NEEDED, is_visible, upstream_faults
from .urls import ESCAPED, is_postgresql, is_redis

_WELL_KNOWN = ("admin", "changeme", "change-me", "default", "example", "password", "secret", "test")
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.ASCII)
_OBJECTS = re.compile(r"file:.|(s3|gs|az)://[^/]")
_SQL = ("sqlite:///", "postgresql://", "postgres://")
_POSITIVE_DURATIONS = (
    ("fallback", "deadline"),
    ("fallback", "max_backoff"),
    ("breaker", "window"),
    ("breaker", "open_for"),
    ("breaker", "max_open_for"),
)
"""Tables and keys of durations that must be more than 0."""
DESCRIBERS = {
    "image": frozenset(("image",)),
    "audio": frozenset(("audio",)),
    "video": frozenset(("image", "video")),
    "document": frozenset(("image",)),
}
"""Settings of `media` that name a model, and the modalities of which it needs one."""
_A_NAME = "expected an id or alias of models"


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
        yield (
            f"auth.default_plan: unknown plan {configuration.auth.default_plan}; known: "
            f"{_known(plans)}"
        )
    yield from landing_faults(configuration.landing, plans)
    yield from _alert_faults(configuration)
    yield from error_faults(configuration.errors)
    yield from _twice("plans", "id", (plan.id for plan in configuration.plans))
    yield from _twice("upstreams", "name", (one.name for one in configuration.upstreams))
    for n, upstream in enumerate(configuration.upstreams):
        for key, sentence in upstream_faults(upstream):
            yield f"upstreams[{n}].{key}: {sentence}"
    yield from _model_faults(configuration, plans)
    yield from _twice("routes", "path", (route.path for route in configuration.routes))
    for name, count in Counter(configuration.endpoints).items():
        if count > 1:
            yield f'endpoints: "{name}" is named twice; expected once'
    for n, route in enumerate(configuration.routes):
        for key, sentence in route_faults(route, configuration.endpoints):
            yield f"routes[{n}].{key}: {sentence}"


def _alert_faults(configuration: Configuration) -> Iterator[str]:
    alerts = configuration.alerts
    if len(set(alerts.at)) < len(alerts.at):
        yield "alerts.at: expected each percent once"
    if alerts.secret is not None:
        try:
            secret_key(alerts.secret.reveal())
        except ValueError as error:
            yield f"alerts.secret: {error}"
    if alerts.webhook is None:
        return
    if not is_address(alerts.webhook.reveal()):
        yield (
            'alerts.webhook: expected a URL such as "https://ops.example.com/penstock", with http '
            "or https, a host and no credentials"
        )
    if configuration.auth.mode == "none":
        yield (
            'alerts.webhook: alerts are about keys and teams; expected auth.mode = "keys", or no '
            "webhook"
        )
    if not alerts.at and alerts.credits_below is None:
        yield "alerts.at: expected at least one percent, or credits_below"


def is_address(url: str) -> bool:
    """Whether `url` is of http or https, with a host and without credentials and fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    known = parts.scheme in ("http", "https") and bool(parts.hostname)
    return known and is_visible(url) and "@" not in parts.netloc and "#" not in url


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
    elif file == store.sql and not is_postgresql(store.sql):
        yield (
            f'store.sql: expected "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"; write {ESCAPED}'
        )
    redis = store.counters.startswith(("redis://", "rediss://", "unix://"))
    if store.counters != "memory" and not redis:
        yield 'store.counters: expected "memory" or "redis://HOST:PORT/0"'
    elif server.workers > 1 and not redis:
        yield (
            f"server.workers: {server.workers} workers need Redis to count limits together; set "
            'store.counters = "redis://HOST:6379/0", or server.workers = 1'
        )
    elif redis and not is_redis(store.counters):
        yield f'store.counters: expected "redis://HOST:PORT/0"; write {ESCAPED}'
    if not _OBJECTS.match(store.objects):
        yield (
            'store.objects: expected "file:FOLDER", "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX" or '
            '"az://CONTAINER/PREFIX"'
        )
    yield from _dashboard_faults(configuration)
    yield from _oidc_faults(configuration)
    if auth.admin_token is not None:
        token = auth.admin_token.reveal()
        letters = token.lower().strip("0123456789!-_. ")
        if len(token) < 16:
            yield "auth.admin_token: expected at least 16 characters"
        elif letters in _WELL_KNOWN or len(set(token)) < 6:
            yield "auth.admin_token: is easily guessed; make one with `openssl rand -hex 32`"
        elif not is_visible(token):
            yield "auth.admin_token: expected visible ASCII characters without spaces"


def _oidc_faults(configuration: Configuration) -> Iterator[str]:
    oidc, path = configuration.dashboard.oidc, "dashboard.oidc"
    if oidc is None:
        return
    if not is_issuer(oidc.issuer):
        yield (
            f"{path}.issuer: expected an https URL without a query and credentials, such as "
            '"https://login.example.com"; http is for this machine only'
        )
    if "openid" not in oidc.scopes:
        yield f'{path}.scopes: expected "openid" among them'
    for n, scope in enumerate(oidc.scopes):
        if not is_visible(scope) or set(scope) & set('"\\'):
            yield f"{path}.scopes[{n}]: expected visible ASCII characters"
    for n, domain in enumerate(oidc.allowed_domains):
        if domain != domain.lower() or not _DOMAIN.fullmatch(domain):
            yield f'{path}.allowed_domains[{n}]: expected a domain such as "example.com"'
    if oidc.auto_create is not None:
        plans = {plan.id for plan in configuration.plans}
        if oidc.auto_create.plan not in plans:
            plan = oidc.auto_create.plan
            yield f"{path}.auto_create.plan: unknown plan {plan}; known: {_known(plans)}"


def is_issuer(url: str) -> bool:
    """Whether `url` can be the issuer of a provider: https, or http of this machine, without
    credentials, query and fragment."""
    if not is_address(url) or "?" in url:
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _dashboard_faults(configuration: Configuration) -> Iterator[str]:
    dashboard, server = configuration.dashboard, configuration.server
    known = dashboard.public_url or server.public_url
    if dashboard.insecure_http and not known and not server.trusted_proxies:
        yield (
            "dashboard.insecure_http: needs dashboard.public_url, the URL that browsers use, such "
            'as "http://10.0.0.5:8080"'
        )
    if dashboard.public_url is not None and urlsplit(dashboard.public_url).path:
        yield "dashboard.public_url: expected a URL without a path; the pages are at /app"


def allowance_faults(allowance: AllowanceConfig, path: str) -> Iterator[str]:
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


def _model_faults(configuration: Configuration, plans: set[str]) -> Iterator[str]:
    upstreams = {upstream.name for upstream in configuration.upstreams}
    owners: dict[str, str] = {}
    for n, model in enumerate(configuration.models):
        for key, name in _names(n, model):
            if name in owners:
                yield f'{key}: "{name}" is also {owners[name]}; expected each name once'
            owners.setdefault(name, key)
    references = [
        (f"plans[{n}].{key}", getattr(plan, key))
        for n, plan in enumerate(configuration.plans)
        for key in ("on_budget", "on_rate_limit")
    ]
    references += [(f"media.{key}", getattr(configuration.media, key)) for key in DESCRIBERS]
    for key, name in references:
        if name is not None and name not in owners:
            yield f"{key}: unknown model {name}; {_A_NAME}"
    yield from _describer_faults(configuration)
    pointing = {
        name
        for model in configuration.models
        if model.embeddings is not None
        for name in (model.id, *model.aliases)
    }
    for n, model in enumerate(configuration.models):
        for key, sentence in (
            *_target_faults(model, upstreams),
            *_fallback_faults(model, owners),
            *_embedder_faults(model, owners, pointing),
            *_list_faults(model),
            *_price_faults(model),
            *_dropped_faults(model),
        ):
            yield f"models[{n}].{key}: {sentence}"
        for m, plan in enumerate(model.plans):
            if plan not in plans:
                yield f"models[{n}].plans[{m}]: unknown plan {plan}; known: {_known(plans)}"


def _describer_faults(configuration: Configuration) -> Iterator[str]:
    """Faults of models that describe media: one that does not take them would be described itself,
    by itself."""
    for key, needed in DESCRIBERS.items():
        name = getattr(configuration.media, key)
        for model in configuration.models:
            if name is None or name not in (model.id, *model.aliases):
                continue
            if not needed.intersection(model.modalities or ()):
                names = " or ".join(f'"{modality}"' for modality in sorted(needed))
                yield (
                    f"media.{key}: the model {name} does not take it; expected a model whose "
                    f"modalities have {names}"
                )


def _target_faults(model: ModelConfig, upstreams: set[str]) -> Iterator[tuple[str, str]]:
    wild = model.id.endswith("*")
    if wild and model.aliases:
        yield "aliases", "an id that ends in * has no aliases; remove them"
    for m, target in enumerate(model.targets):
        upstream, _, name = target.partition("/")
        if upstream not in upstreams:
            yield f"targets[{m}]", f"unknown upstream {upstream}; known: {_known(upstreams)}"
        if name.endswith("*") and not wild:
            yield (
                f"targets[{m}]",
                f"ends in *, but the id {model.id} does not; write the whole name of the "
                "upstream's model",
            )


def _fallback_faults(model: ModelConfig, owners: Collection[str]) -> Iterator[tuple[str, str]]:
    for m, fallback in enumerate(model.fallbacks):
        if fallback not in owners:
            yield f"fallbacks[{m}]", f"unknown model {fallback}; {_A_NAME}"
        elif fallback == model.id or fallback in model.aliases:
            yield f"fallbacks[{m}]", f"{fallback} is this model itself; expected another"


def _embedder_faults(
    model: ModelConfig, owners: Collection[str], pointing: Collection[str]
) -> Iterator[tuple[str, str]]:
    """pointing: names of models whose embeddings another model makes."""
    if model.embeddings is None:
        return
    if model.id.endswith("*"):
        yield "embeddings", "an id that ends in * has none; remove it"
    elif model.embeddings not in owners or model.embeddings.endswith("*"):
        yield "embeddings", f"unknown model {model.embeddings}; {_A_NAME} that ends in no *"
    elif model.embeddings in (model.id, *model.aliases):
        yield "embeddings", f"{model.embeddings} is this model itself; remove it"
    elif model.embeddings in pointing:
        yield "embeddings", f"another model makes those of {model.embeddings}; name that one"


def _price_faults(model: ModelConfig) -> Iterator[tuple[str, str]]:
    price = model.price
    if price is not None and price.upstream_cost and not (price.job or price.second):
        yield (
            "price.upstream_cost",
            "expected `job` or `second` beside it, which bound the cost of a job",
        )


def _list_faults(model: ModelConfig) -> Iterator[tuple[str, str]]:
    """Faults of the lists that have an entry for each target."""
    count = len(model.targets)
    if model.weights and model.load_balancing != "weight":
        yield "weights", 'is used only with load_balancing = "weight"; set that or remove it'
    elif model.weights and len(model.weights) != count:
        found = len(model.weights)
        yield "weights", f"expected {count} numbers, one for each target, found {found}"
    if model.families and model.family is not None:
        yield "families", "is not used beside family; keep one of them"
    elif model.families and len(model.families) != count:
        found = len(model.families)
        yield "families", f"expected {count} names, one for each target, found {found}"


def _dropped_faults(model: ModelConfig) -> Iterator[tuple[str, str]]:
    for m, name in enumerate(model.drop_params):
        if name.casefold() in NEEDED | BOUNDS:
            yield (
                f"drop_params[{m}]",
                f"{name} cannot be dropped: the cost of a request is computed from it",
            )


def _known(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _names(n: int, model: ModelConfig) -> Iterator[tuple[str, str]]:
    yield f"models[{n}].id", model.id
    for m, alias in enumerate(model.aliases):
        yield f"models[{n}].aliases[{m}]", alias


def _twice(table: str, key: str, values: Iterable[str]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f'{table}: {count} entries have the {key} "{value}"; expected one'


def _is_origin(text: str) -> bool:
    scheme, _, host = text.partition("://")
    return (
        scheme in ("http", "https")
        and bool(host)
        and is_visible(host)
        and not set(host) & set("/?#@")
    )
