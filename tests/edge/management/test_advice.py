"""Advice and warnings of `penstock check` about valid configurations."""

from typing import Any

from edge.config.load import parse
from edge.management.advice import advice
from tests.edge.config.documents import MODEL, UPSTREAM


def test_advice_base_url_without_path() -> None:
    def said(url: str) -> list[str]:
        return advice(parse({"upstreams": [{"name": "u", "dialect": "openai", "base_url": url}]}))

    (sentence,) = said("https://api.example.com")
    assert sentence.startswith("upstreams[0].base_url: https://api.example.com has no path")
    assert said("https://api.example.com/v1") == []


def test_advice_place_of_files() -> None:
    def said(**store: str) -> list[str]:
        return [one for one in advice(parse({"store": store})) if "store.objects" in one]

    (sentence,) = said(objects="s3://bucket/files")
    assert "AbortIncompleteMultipartUpload" in sentence
    (sentence,) = said(sql="postgresql://host/db")
    assert "other hosts" in sentence
    assert said() == []
    assert said(sql="postgresql://host/db", objects="gs://bucket") == []


def test_advice_sign_in_by_oidc() -> None:
    def said(issuer: str = "https://login.example.com", **oidc: Any) -> list[str]:
        dashboard = oidc.pop("dashboard", {"public_url": "https://llm.example.com"})
        given = {"issuer": issuer, "client_id": "penstock", **oidc}
        document = {"dashboard": {**dashboard, "oidc": given}}
        return [one for one in advice(parse(document)) if one.startswith("dashboard.oidc")]

    assert said() == []
    assert said(owner_claim="email", admin_groups=["ops"]) == []
    (sentence,) = said(dashboard={})
    assert "works at localhost only" in sentence
    (sentence,) = said(dashboard={"enabled": False, "public_url": "https://llm.example.com"})
    assert "dashboard.enabled is off" in sentence
    (sentence,) = said("https://login.example.com/.well-known/openid-configuration")
    assert "not the URL of its discovery document" in sentence
    (sentence,) = said(owner_claim="nickname")
    assert "the claim nickname" in sentence
    (sentence,) = said("https://accounts.google.com")
    assert "every Google account" in sentence
    assert said("https://accounts.google.com", allowed_domains=["example.com"]) == []


def test_advice_local_model_that_does_not_exist() -> None:
    local = {"name": "local", "dialect": "local-media"}

    def said(target: str) -> list[str]:
        document = {"upstreams": [local], "models": [{"id": "m", "targets": [target]}]}
        return [one for one in advice(parse(document)) if ".targets" in one]

    (sentence,) = said("local/whisper")
    assert sentence == (
        "models[0].targets: local/whisper does not exist; expected voice, whisper-tiny, ocr"
    )
    assert said("local/whisper-tiny") == []


def test_advice_storage_that_holds_no_result_of_a_job() -> None:
    film = {"id": "film", "targets": ["up/film"]}

    def said(model: dict[str, Any], upstream: dict[str, Any], **files: str) -> list[str]:
        document = {
            "upstreams": [{**UPSTREAM, **upstream}],
            "models": [{**film, **model}],
            "plans": [{"id": "a"}, {"id": "small", "storage": "1MiB"}, {"id": "b", "storage": 1}],
            "jobs": {"max_result": "2MiB"},
            "files": files,
        }
        return [sentence for sentence in advice(parse(document)) if "max_result" in sentence]

    plans = ["plans[1].storage", "plans[2].storage"]
    for model, upstream in (
        ({"jobs": "xai"}, {}),
        ({"price": {"job": "1"}}, {}),
        ({"price": {"second": "1"}}, {}),
        ({"output_modalities": ["video"]}, {}),
        ({}, {"jobs": "fal"}),
    ):
        found = said(model, upstream)
        assert [one.partition(":")[0] for one in found] == plans
        assert found[0] == (
            "plans[1].storage: 1048576 bytes is less than jobs.max_result, 2097152 bytes, which "
            "each job reserves; its keys cannot use film"
        )
        assert len(said(model, upstream, storage="1MiB")) == 3
        assert len(said(model, upstream, storage="2MiB")) == 2
    assert said({}, {}, storage="1MiB") == []


def test_advice_azure_deployment_of_unknown_model() -> None:
    azure = {**UPSTREAM, "base_url": "https://res.openai.azure.com/openai/v1"}
    other = {**UPSTREAM, "name": "other", "base_url": "https://api.example.com/v1"}

    def said(**fields: Any) -> list[str]:
        document = {"upstreams": [azure, other], "models": [{**MODEL, **fields}]}
        return [sentence for sentence in advice(parse(document)) if ".family" in sentence]

    (sentence,) = said(targets=["other/m", "up/prod"])
    assert sentence.startswith("models[0].family: is not given; up/prod may be any model")
    for known in (
        {"targets": ["up/gpt-5-prod", "other/prod"]},
        {"targets": ["up/prod"], "family": "gpt-5"},
        {"targets": ["up/prod"], "families": ["gpt-5"]},
    ):
        assert said(**known) == []


def test_advice_models_that_no_budget_limits() -> None:
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {"id": "none", "targets": ["up/a"]},
                {"id": "input", "targets": ["up/b"], "price": {"input": "1"}},
                {"id": "both", "targets": ["up/c"], "price": {"input": "1", "output": "2"}},
                {"id": "zero", "targets": ["up/d"], "price": {"input": "0", "output": "0"}},
                {
                    "id": "embed",
                    "targets": ["up/e"],
                    "output_modalities": ["embedding"],
                    "price": {"input": "1"},
                },
                {"id": "spare", "targets": ["up/f"]},
                {"id": "gold", "targets": ["up/g"], "plans": ["gold"]},
            ],
            "plans": [
                {"id": "pro", "windows": [{"length": "5h", "credits": "1"}], "on_budget": "spare"},
                {"id": "prepaid", "overflow": "credits"},
                {"id": "gold", "requests": "1/min"},
            ],
        },
        env={},
    )
    others = ("max_output", "hosted_call", "cache_read")
    found = [one for one in advice(settings) if not any(name in one for name in others)]
    assert [sentence.partition(":")[0] for sentence in found] == [
        "models[0].price",
        "models[1].price.output",
        "models[6].price",
    ]
    assert "the budgets of pro, prepaid do not limit them" in found[0]
    assert "the budgets of keys" in found[2]


def test_advice_nothing_sold_is_silent() -> None:
    models = [{"id": "m", "targets": ["up/a"]}]
    upstreams = [{"name": "up", "dialect": "simulator"}]
    plans = [{"id": "slow", "requests": "1/min"}]
    document = {"upstreams": upstreams, "models": models, "plans": plans}
    assert advice(parse(document, env={})) == []


def test_advice_charges_of_vendors_without_a_price() -> None:
    price = {"input": "1", "output": "2"}
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {"id": "plain", "targets": ["up/p"], "price": {**price, "hosted_call": "0"}},
                {"id": "hidden", "targets": ["up/gpt-5"], "price": price},
                {"id": "drained", "targets": ["up/o3"], "price": price, "on_hangup": "drain"},
                {"id": "named", "targets": ["up/x"], "family": "gpt-5.2", "price": price},
                {"id": "claude", "targets": ["up/claude-opus-5-5"], "price": price},
                {"id": "older", "targets": ["up/claude-3-5-haiku-latest"], "price": price},
                {"id": "free", "targets": ["up/gpt-5"]},
            ],
            "plans": [{"id": "pro"}, {"id": "patient", "on_hangup": "drain"}],
        },
        env={},
    )
    found = {one.partition(":")[0]: one for one in advice(settings)}
    assert (
        "not given for hidden, drained, named, claude, older;"
        in found["models[].price.hosted_call"]
    )
    assert "not given for hidden, named, claude;" in found["models[].on_hangup"]
    assert "keys of pro." in found["models[].on_hangup"]


def test_advice_self_service_with_windows() -> None:
    """Each key that a holder creates has windows of its own."""

    def said(plan: dict[str, Any], *, on: bool) -> list[str]:
        document = {"plans": [{"id": "p", **plan}], "dashboard": {"self_service": on}}
        return [one for one in advice(parse(document)) if "self_service" in one]

    windows = {"windows": [{"length": "5h", "credits": "1"}]}
    (sentence,) = said(windows, on=True)
    assert sentence.startswith("dashboard.self_service: is on") and "team" in sentence
    assert said(windows, on=False) == said({}, on=True) == []


def test_advice_endpoints() -> None:
    upstream = {"name": "s", "dialect": "simulator"}

    def said(*names: str, **model: Any) -> list[str]:
        document = {
            "endpoints": list(names),
            "upstreams": [upstream],
            "models": [{"id": "m", "targets": ["s/x"], **model}],
        }
        return [one for one in advice(parse(document)) if one.startswith(("endpoints", "models"))]

    assert said("chat.completions", "models") == []
    assert said("videos.generations", "videos.jobs", output_modalities=["video"]) == []
    (sentence,) = said("chat.completions", "videos")
    assert sentence == "endpoints: videos is offered without videos.jobs, which it leads to"
    (sentence,) = said("chat.completions", output_modalities=["image"])
    assert sentence == (
        "models[0]: no endpoint that is offered calls m; add images.edits or images.generations "
        "to endpoints, or set internal = true"
    )
    assert said("chat.completions", output_modalities=["image"], internal=True) == []
