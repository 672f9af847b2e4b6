"""Notes and warnings of `penstock check` about valid configurations.

Each sentence begins with the path of a key.
"""

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from edge.config.load import Settings
from edge.config.model import ModelConfig, PlanConfig
from edge.media.local_models.call import OCR, VOICE, WHISPER
from edge.vendors.claude_models import claude
from edge.vendors.openai_models import is_openai, reasons


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
        *_dashboard(settings),
        *_objects(settings),
        *_local_media(settings),
        *_small_storage(settings),
        *_nameless(settings),
        *_oidc(settings),
        *_unpriced(settings.models, settings.plans),
        *_uncharged(settings.models, settings.plans),
        *_multiplied(settings),
    ]


def _multiplied(settings: Settings) -> Iterator[str]:
    """Notes about budgets that holders can multiply by creating keys."""
    limited = [plan.id for plan in settings.plans if plan.windows]
    if settings.dashboard.self_service and limited:
        yield (
            "dashboard.self_service: is on, and each key that a holder creates has the windows of "
            f"its plan ({', '.join(limited)}) again; put the keys of an owner into a team, whose "
            "plan holds over all of them"
        )


def _dashboard(settings: Settings) -> Iterator[str]:
    """Notes about the dashboard."""
    dashboard = settings.dashboard
    server = settings.server
    known = dashboard.public_url or server.public_url or server.trusted_proxies
    if dashboard.enabled and not known and server.host in ("0.0.0.0", "::"):  # noqa: S104
        yield (
            "dashboard.public_url: is not given; people can sign in to the dashboard on this "
            "machine only. Give the https URL that browsers use, or dashboard.enabled = false"
        )
    if dashboard.admin_password is not None and dashboard.admin_password.weak:
        yield (
            "dashboard.admin_password: its hash takes less work to guess than it should; make a "
            "new one with `penstock admin-password`"
        )


def _objects(settings: Settings) -> Iterator[str]:
    """Notes about the place of files."""
    store = settings.store
    if store.objects.startswith("s3:"):
        yield (
            "store.objects: the bucket needs a rule that aborts incomplete multipart uploads "
            "(AbortIncompleteMultipartUpload), for what a killed process leaves; it is not checked"
        )
    elif store.objects.startswith("file:") and not store.sql.startswith("sqlite:"):
        yield (
            "store.objects: is a folder of this machine; other hosts that share store.sql do not "
            "see its files. Name a bucket, or mount the folder on each of them"
        )


def _local_media(settings: Settings) -> Iterator[str]:
    """Notes about targets that no model of this machine has."""
    local = {upstream.name for upstream in settings.upstreams if upstream.dialect == "local-media"}
    known = (VOICE, WHISPER, OCR)
    for n, model in enumerate(settings.models):
        for target in model.targets:
            upstream, _, name = target.partition("/")
            if upstream in local and name not in known:
                yield f"models[{n}].targets: {target} does not exist; expected {', '.join(known)}"


def _oidc(settings: Settings) -> Iterator[str]:
    """Notes about the sign-in by OpenID Connect."""
    dashboard, oidc = settings.dashboard, settings.dashboard.oidc
    if oidc is None:
        return
    if not dashboard.enabled:
        yield "dashboard.oidc: no one can sign in, since dashboard.enabled is off"
    known = dashboard.public_url or settings.server.public_url or settings.server.trusted_proxies
    if not known:
        yield (
            "dashboard.oidc: works at localhost only; set dashboard.public_url, and register "
            "PUBLIC_URL/app/oidc/callback as redirect URI at the provider"
        )
    if "/.well-known/" in oidc.issuer:
        yield "dashboard.oidc.issuer: expected the issuer, not the URL of its discovery document"
    if oidc.owner_claim not in ("sub", "email"):
        yield (
            f"dashboard.oidc.owner_claim: a person who can change the claim {oidc.owner_claim} at "
            "the provider sees the keys of others"
        )
    if oidc.issuer == "https://accounts.google.com" and not oidc.allowed_domains:
        yield "dashboard.oidc.allowed_domains: is not given, so every Google account may sign in"


def _small_storage(settings: Settings) -> Iterator[str]:
    """Notes about storage that the result of a job may not fit into."""
    upstreams = {upstream.name: upstream for upstream in settings.upstreams}
    making = [
        model.id
        for model in settings.models
        if model.jobs
        or (model.price is not None and (model.price.job or model.price.second))
        or "video" in model.output_modalities
        or any(upstreams[target.partition("/")[0]].jobs for target in model.targets)
    ]
    if not making:
        return
    most = settings.jobs.max_result
    given = [(f"plans[{n}].storage", plan.storage) for n, plan in enumerate(settings.plans)]
    for path, storage in (*given, ("files.storage", settings.files.storage)):
        if storage is not None and storage < most:
            yield (
                f"{path}: {int(storage)} bytes is less than jobs.max_result, {int(most)} bytes, "
                f"which each job reserves; its keys cannot use {', '.join(making)}"
            )


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


def _unpriced(models: Sequence[ModelConfig], plans: Sequence[PlanConfig]) -> Iterator[str]:
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
        whose = f"the budgets of {', '.join(limited)}" if limited else "the budgets of keys"
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


def _uncharged(models: Sequence[ModelConfig], plans: Sequence[PlanConfig]) -> Iterator[str]:
    """Notes about models with a price. Each begins with the key that would charge for the rest."""
    sold = [model for model in models if model.price is not None and model.price.output]
    yield from _hosted(model for model in sold if model.price and model.price.hosted_call is None)
    leaving = [plan.id for plan in plans if plan.on_hangup == "cancel"]
    if leaving:
        yield from _hidden((model for model in sold if model.on_hangup is None), leaving)


def _hosted(models: Iterable[ModelConfig]) -> Iterator[str]:
    if names := ", ".join(model.id for model in models):
        yield (
            f"models[].price.hosted_call: is not given for {names}; of tools that the vendor runs "
            "(web search, file search, code) only the tokens are charged. Give a price for each "
            "call, of 0 where that is meant"
        )


def _hidden(models: Iterable[ModelConfig], plans: Sequence[str]) -> Iterator[str]:
    if names := ", ".join(model.id for model in models if _has_hidden_reasoning(model)):
        yield (
            f"models[].on_hangup: is not given for {names}; hidden reasoning cannot be "
            f"counted when a client disconnects, and is not charged to keys of {', '.join(plans)}. "
            'Set "drain" to charge the count of the upstream'
        )


def _has_hidden_reasoning(model: ModelConfig) -> bool:
    names = [target.split("/", 1)[1] for target in model.targets]
    families = model.families or ([model.family] * len(names) if model.family else names)
    return any(reasons(name) or claude(name).unasked for name in families)
