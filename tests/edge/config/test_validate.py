"""Cross-field checks: each fault of a configuration is a sentence with its path."""

from datetime import date
from typing import Any

import pytest

from edge.config.load import SettingsError, parse
from edge.config.secrets import Secret
from edge.endpoints import TAILS

from .documents import CANARY, MODEL, UPSTREAM, faults, model, upstream


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"server": {"workers": 2}},
            "server.workers: 2 workers need Redis to count limits together; set store.counters = "
            '"redis://HOST:6379/0", or server.workers = 1',
        ),
        (
            {"store": {"sql": "mysql://h/d"}},
            'store.sql: expected "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE"',
        ),
        (
            {"store": {"sql": "sqlite:///:memory:"}},
            'store.sql: expected "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE"',
        ),
        (
            {"store": {"counters": "disk"}},
            'store.counters: expected "memory" or "redis://HOST:PORT/0"',
        ),
        (
            {"store": {"counters": "redis://:hunter2/@cache:6379/0"}},
            'store.counters: expected "redis://HOST:PORT/0"; write / ? # @ : % [ in a password as '
            "%2F %3F %23 %40 %3A %25 %5B",
        ),
        *(
            (
                {"store": {"sql": f"postgresql://penstock:{password}@db.example.com:5432/p"}},
                'store.sql: expected "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"; write '
                "/ ? # @ : % [ in a password as %2F %3F %23 %40 %3A %25 %5B",
            )
            for password in ("a@b", "a@b#1", "a#b", "a/b", "a?b", "1?b=c", "a[b", "a/b@c", "a]b[")
        ),
        *(
            (
                {"dashboard": {"oidc": {"issuer": issuer, "client_id": "p"}}},
                "dashboard.oidc.issuer: expected an https URL without a query and credentials, "
                'such as "https://login.example.com"; http is for this machine only',
            )
            for issuer in (
                "login.example.com",
                "http://login.example.com",
                "http://localhost.example.com",
                f"https://user:{CANARY}@login.example.com",
                "https://login.example.com/?tenant=1",
                "https://login.example.com/#x",
                "ftp://localhost",
                "https://",
            )
        ),
        *(
            (
                {
                    "dashboard": {
                        "oidc": {"issuer": "https://a.example", "client_id": "p", key: value}
                    }
                },
                f"dashboard.oidc.{sentence}",
            )
            for key, value, sentence in (
                ("scopes", ["email"], 'scopes: expected "openid" among them'),
                ("scopes", ["openid", "a b"], "scopes[1]: expected visible ASCII characters"),
                ("scopes", ["openid", 'a"b'], "scopes[1]: expected visible ASCII characters"),
                (
                    "allowed_domains",
                    ["@example.com"],
                    'allowed_domains[0]: expected a domain such as "example.com"',
                ),
                (
                    "allowed_domains",
                    ["Example.com"],
                    'allowed_domains[0]: expected a domain such as "example.com"',
                ),
            )
        ),
        *(
            (
                {"alerts": {"webhook": url or CANARY}},
                'alerts.webhook: expected a URL such as "https://ops.example.com/penstock", with '
                "http or https, a host and no credentials",
            )
            for url in (
                "",
                "ftp://ops.example.com/x",
                "https://",
                f"https://user:{CANARY}@ops.example.com/",
                f"https://ops.example.com/#{CANARY}",
                f"https://ops.example.com:x/{CANARY}",
                f"https://ops.example.com/ {CANARY}",
            )
        ),
        (
            {"alerts": {"webhook": "https://ops.example.com/"}, "auth": {"mode": "none"}},
            "alerts.webhook: alerts are about keys and teams; expected auth.mode = "
            '"keys", or no webhook',
        ),
        ({"alerts": {"at": [80, 80]}}, "alerts.at: expected each percent once"),
        (
            {"alerts": {"webhook": "https://ops.example.com/", "at": []}},
            "alerts.at: expected at least one percent, or credits_below",
        ),
        (
            {"alerts": {"secret": f"whsec_{CANARY}"}},
            'alerts.secret: expected "whsec_" and 24 to 64 bytes in base64',
        ),
        (
            {"limits": {"throttle_max_wait": 0}},
            "limits.throttle_max_wait: expected more than 0 seconds; "
            'on_excess = "reject" never waits',
        ),
        (
            {"limits": {"throttle_max_memory": "0"}},
            "limits.throttle_max_memory: expected more than 0 bytes",
        ),
        *(
            (
                {"store": {"objects": place}},
                'store.objects: expected "file:FOLDER", "s3://BUCKET/PREFIX", '
                '"gs://BUCKET/PREFIX" or "az://CONTAINER/PREFIX"',
            )
            for place in ("var", "s3:bucket", "s3://", "gs:///prefix", "file:")
        ),
        (
            {"server": {"cors_origins": ["app.example"]}},
            'server.cors_origins[0]: expected an origin such as "https://app.example.com" or "*", '
            'found "app.example"',
        ),
        ({"brand": "—"}, "brand: expected at least one ASCII letter or digit"),
        ({"brand": "a\nb"}, "brand: expected printable text on one line"),
        (
            {"upstreams": [UPSTREAM, UPSTREAM]},
            'upstreams: 2 entries have the name "up"; expected one',
        ),
        (
            {"plans": [{"id": "p"}, {"id": "p"}]},
            'plans: 2 entries have the id "p"; expected one',
        ),
        (
            {"upstreams": [{"name": "up", "dialect": "anthropic"}]},
            "upstreams[0].base_url: is missing; dialect anthropic needs it",
        ),
        (
            upstream(dialect="simulator"),
            "upstreams[0].base_url: is not used by dialect simulator; remove it",
        ),
        (upstream(idle_timeout=0), "upstreams[0].idle_timeout: expected more than 0 seconds"),
        (
            upstream(auth_header="api-key"),
            "upstreams[0].auth_header: is not used without api_key; set the key or remove it",
        ),
        (upstream(query={"": "1"}), "upstreams[0].query.: expected a printable name"),
        (
            upstream(query={"v": "1\r\nx: y"}),
            "upstreams[0].query.v: expected printable text without line ends as its value",
        ),
        (
            upstream(extra_body={"Max_Tokens": 5}),
            "upstreams[0].extra_body.Max_Tokens: cannot be set here: the cost of a request is "
            "computed from the caller's own",
        ),
        (
            upstream(extra_body={"day": date(2026, 1, 1)}),
            "upstreams[0].extra_body.day: expected a JSON value: no date, nan or inf",
        ),
        (
            upstream(extra_body={"a": [float("nan")]}),
            "upstreams[0].extra_body.a: expected a JSON value: no date, nan or inf",
        ),
        (
            upstream(extra_body={"user": "x"}, drop_body=["user"]),
            "upstreams[0].extra_body.user: is in drop_body too; keep one of them",
        ),
        (
            upstream(drop_body=["seed", "max_output_tokens"]),
            "upstreams[0].drop_body[1]: max_output_tokens cannot be dropped: the cost of a "
            "request is computed from it",
        ),
        (
            {"upstreams": [{"name": "cli", "dialect": "claude-cli", "files": True}]},
            "upstreams[0].files: is not used by dialect claude-cli; remove it",
        ),
        (
            {"upstreams": [{"name": "cli", "dialect": "claude-cli", "drop_body": ["user"]}]},
            "upstreams[0].drop_body: is not used by dialect claude-cli; remove it",
        ),
        (
            {"upstreams": [{"name": "own", "dialect": "local-media", "extra_body": {"a": 1}}]},
            "upstreams[0].extra_body: is not used by dialect local-media; remove it",
        ),
        (
            {"upstreams": [{"name": "own", "dialect": "local-media", "api_key": "k-12345678"}]},
            "upstreams[0].api_key: is not used by dialect local-media; remove it",
        ),
        (
            {"upstreams": [{"name": "own", "dialect": "local-media", "prewarm": 2}]},
            "upstreams[0].prewarm: is not used by dialect local-media; remove it",
        ),
        (
            upstream(headers={"x y": "1"}),
            "upstreams[0].headers.x y: expected a header name (RFC 9110 token)",
        ),
        (
            upstream(headers={"Host": "h"}),
            "upstreams[0].headers.Host: is set by Penstock itself; remove it",
        ),
        (
            upstream(headers={"x-a": "1", "X-A": "2"}),
            "upstreams[0].headers.X-A: is there in another case too; keep one of them",
        ),
        (
            upstream(headers={"x-a": "1\r\nx-b: 2"}),
            "upstreams[0].headers.x-a: expected printable ASCII characters without line ends as "
            "its value",
        ),
        (upstream(proxy="http://p:1"), 'upstreams[0].proxy: needs transport = "httpx"'),
        *(
            (
                upstream(transport="httpx", proxy=url),
                'upstreams[0].proxy: expected a URL such as "http://proxy.example.com:3128"; write '
                "/ ? # @ : % [ in a password as %2F %3F %23 %40 %3A %25 %5B",
            )
            for url in (
                "proxy:3128",
                "http://",
                "http://u:a/b@proxy.example.com:3128",
                "http://u:a@b@proxy.example.com:3128",
                "http://u:a#b@proxy.example.com:3128",
                "http://u:1?b@proxy.example.com:3128",
                "http://u:a[b@proxy.example.com:3128",
                "http://u:a@proxy.example.com:99999",
            )
        ),
        (
            model(targets=["other/m"]),
            "models[0].targets[0]: unknown upstream other; known: up",
        ),
        (
            model(targets=["up"]),
            'models[0].targets[0]: expected "upstream/its-model-name", with * only at the end, '
            'found "up"',
        ),
        (
            model(targets=["up/*"]),
            "models[0].targets[0]: ends in *, but the id m does not; write the whole "
            "name of the upstream's model",
        ),
        (
            model(aliases=["m"]),
            'models[0].aliases[0]: "m" is also models[0].id; expected each name once',
        ),
        (
            model(id="m-*", aliases=["x"]),
            "models[0].aliases: an id that ends in * has no aliases; remove them",
        ),
        (
            model(fallbacks=["n"]),
            "models[0].fallbacks[0]: unknown model n; expected an id or alias of models",
        ),
        (
            model(fallbacks=["m"]),
            "models[0].fallbacks[0]: m is this model itself; expected another",
        ),
        (
            model(embeddings="n"),
            "models[0].embeddings: unknown model n; expected an id or alias of models that ends in "
            "no *",
        ),
        (model(embeddings="m"), "models[0].embeddings: m is this model itself; remove it"),
        (
            {
                **model(embeddings="b"),
                "models": [
                    {**MODEL, "embeddings": "b"},
                    {**MODEL, "id": "b", "embeddings": "c"},
                    {**MODEL, "id": "c"},
                ],
            },
            "models[0].embeddings: another model makes those of b; name that one",
        ),
        (
            model(id="m-*", embeddings="n"),
            "models[0].embeddings: an id that ends in * has none; remove it",
        ),
        (model(plans=["pro"]), "models[0].plans[0]: unknown plan pro; known: none"),
        (
            model(weights=[1]),
            'models[0].weights: is used only with load_balancing = "weight"; set that or remove it',
        ),
        (
            model(family="gpt 5"),
            "models[0].family: expected a name without spaces, quotes or *, at most 200 "
            'characters, found "gpt 5"',
        ),
        (
            model(families=["gpt-5", "gpt-4.1"]),
            "models[0].families: expected 1 names, one for each target, found 2",
        ),
        (
            model(family="gpt-5", families=["gpt-5"]),
            "models[0].families: is not used beside family; keep one of them",
        ),
        (
            model(load_balancing="weight", weights=[1, 2]),
            "models[0].weights: expected 1 numbers, one for each target, found 2",
        ),
        (
            {"plans": [{"id": "p", "on_budget": "x"}]},
            "plans[0].on_budget: unknown model x; expected an id or alias of models",
        ),
        (
            {"plans": [{"id": "p", "on_rate_limit": "x"}]},
            "plans[0].on_rate_limit: unknown model x; expected an id or alias of models",
        ),
        ({"breaker": {"open_for": "0s"}}, "breaker.open_for: expected more than 0 seconds"),
        ({"fallback": {"deadline": "0s"}}, "fallback.deadline: expected more than 0 seconds"),
        (
            {"media": {"image": "eye"}},
            "media.image: unknown model eye; expected an id or alias of models",
        ),
        (
            {**model(modalities=["text"]), "media": {"image": "m"}},
            "media.image: the model m does not take it; expected a model whose modalities have "
            '"image"',
        ),
        (
            {**model(modalities=["text"]), "media": {"video": "m"}},
            "media.video: the model m does not take it; expected a model whose modalities have "
            '"image" or "video"',
        ),
        (
            {
                "upstreams": [UPSTREAM],
                "models": [{**MODEL, "aliases": ["n"]}, {"id": "n", "targets": ["up/n"]}],
            },
            'models[1].id: "n" is also models[0].aliases[0]; expected each name once',
        ),
        (
            {"routes": [{"path": "/v2/odd", "dialect": "openai"}]},
            f"routes[0].endpoint: is missing; /v2/odd ends in none of {', '.join(TAILS)}",
        ),
        (
            {"upstreams": [UPSTREAM], "models": [{**MODEL, "drop_params": ["style", "Model"]}]},
            "models[0].drop_params[1]: Model cannot be dropped: the cost of a request is computed "
            "from it",
        ),
        (
            {
                "upstreams": [{"name": "a", "dialect": "simulator"}],
                "models": [{"id": "m", "targets": ["a/x"], "price": {"upstream_cost": "1.0"}}],
            },
            "models[0].price.upstream_cost: expected `job` or `second` beside it, which bound the "
            "cost of a job",
        ),
        (
            {"routes": [{"path": "/x/chat/completions", "dialect": "openai", "prefer": "openai"}]},
            'routes[0].prefer: is used only with dialect = "auto"; set that or remove it',
        ),
        (
            {"routes": [{"path": "/x/embeddings", "dialect": "auto", "prefer": "openai"}]},
            "routes[0].prefer: embeddings has one dialect; remove it",
        ),
        (
            {"routes": [{"path": "/x/models", "dialect": "auto", "prefer": "responses"}]},
            'routes[0].prefer: expected "openai" or "anthropic" for models',
        ),
        (
            {
                "routes": [
                    {"path": "/x/chat/completions", "dialect": "openai", "default_max_tokens": 5}
                ]
            },
            "routes[0].default_max_tokens: is only for conversations in Anthropic's dialect; "
            "remove it",
        ),
        (
            {
                "endpoints": ["chat.completions"],
                "routes": [
                    {"path": "/x/chat/completions", "dialect": "auto", "default_max_tokens": 5}
                ],
            },
            "routes[0].default_max_tokens: endpoints does not have messages; add it there or "
            "remove this",
        ),
        (
            {"routes": [{"path": "/x/models", "dialect": "auto", "default_max_tokens": 5}]},
            "routes[0].default_max_tokens: is only for conversations in Anthropic's dialect; "
            "remove it",
        ),
        (
            {
                "endpoints": ["models"],
                "routes": [{"path": "/x/messages", "dialect": "anthropic"}],
            },
            "routes[0].endpoint: endpoints does not have messages; add it there or remove the "
            "route",
        ),
        (
            {
                "endpoints": ["chat.completions"],
                "routes": [{"path": "/x/chat/completions", "dialect": "anthropic"}],
            },
            "routes[0].dialect: endpoints does not have messages, which speaks anthropic",
        ),
        (
            {
                "endpoints": ["chat.completions"],
                "routes": [
                    {"path": "/x/chat/completions", "dialect": "auto", "prefer": "anthropic"}
                ],
            },
            "routes[0].prefer: endpoints does not have messages, which speaks anthropic",
        ),
        (
            {"endpoints": ["models", "chat.completion"]},
            'endpoints[1]: did you mean "chat.completions"?, found "chat.completion"',
        ),
        ({"endpoints": ["models", "models"]}, 'endpoints: "models" is named twice; expected once'),
        ({"endpoints": []}, "endpoints: expected at least one entry, found none"),
        (
            {"routes": [{"path": "/x/models", "dialect": "openai"}] * 2},
            'routes: 2 entries have the path "/x/models"; expected one',
        ),
    ],
)
def test_cross_field_fault_is_reported_in_a_sentence(
    document: dict[str, Any], expected: str
) -> None:
    assert faults(document) == (expected,)


def test_workers_with_redis_may_be_many() -> None:
    settings = parse({"server": {"workers": 4}, "store": {"counters": "redis://h"}}, env={})
    assert settings.server.workers == 4


@pytest.mark.parametrize("bad", [f"{CANARY}\r\nx-evil: 1", f"{CANARY} b", f"{CANARY}ü"])
def test_api_key_invalid_in_header_is_refused_without_echo(bad: str) -> None:
    (fault,) = faults(upstream(api_key="env:K"), env={"K": bad})
    assert fault.startswith("upstreams[0].api_key: expected visible ASCII")
    assert CANARY not in fault


@pytest.mark.parametrize(
    "token", ["admin", "changeme", "short-1234", "password12345678", "secret----------", "a" * 32]
)
def test_admin_token_easily_guessed_is_refused(token: str) -> None:
    (fault,) = faults({"auth": {"admin_token": token}})
    assert fault.startswith("auth.admin_token: ")
    assert token not in fault.removeprefix("auth.admin_token: ")


@pytest.mark.parametrize(
    "key",
    [
        *("os.environ/OPENAI_API_KEY", "os.environ['X']", "$OPENAI_API_KEY", "${OPENAI_API_KEY}"),
        *("{{ env.KEY }}", "{env:KEY}", "%KEY%", "process.env.KEY", "env.KEY", "<your-api-key>"),
        *("vault://secret/key", "op://vault/item", "ENV:KEY", "OPENAI_API_KEY"),
    ],
)
def test_api_key_reference_of_other_program_is_refused_without_echo(key: str) -> None:
    upstream = {"name": "u", "dialect": "openai", "base_url": "https://x/v1", "api_key": key}
    with pytest.raises(SettingsError) as raised:
        parse({"upstreams": [upstream]})
    (fault,) = raised.value.faults
    assert fault.startswith("upstreams[0].api_key: looks like a reference")
    assert '"env:NAME"' in fault
    assert key not in fault


@pytest.mark.parametrize("key", ["sk-proj-$abc", "AIza%20x", "key-env.in-it", "a{b}c", "x<y>z"])
def test_api_key_with_odd_characters_is_accepted(key: str) -> None:
    upstream = {"name": "u", "dialect": "openai", "base_url": "https://x/v1", "api_key": key}
    settings = parse({"upstreams": [upstream]})
    assert settings.upstreams[0].api_key == Secret(key)


@pytest.mark.parametrize(
    ("url", "end"),
    [
        ("https://x/v1/chat/completions", "/chat/completions"),
        ("https://x/v1/completions/", "/completions"),
        ("https://x/v1/messages", "/messages"),
        ("https://x/v1/responses", "/responses"),
        ("https://x/openai/embeddings", "/embeddings"),
    ],
)
def test_base_url_with_endpoint_path_is_refused(url: str, end: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse({"upstreams": [{"name": "u", "dialect": "openai", "base_url": url}]})
    (fault,) = raised.value.faults
    assert fault.startswith(f"upstreams[0].base_url: ends in the path {end},")
