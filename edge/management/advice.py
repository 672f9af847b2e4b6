"""Warnings and notes of `penstock check` about valid configurations.

Each sentence begins with the path of a key. Those about prices are in `price_advice`.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from edge.config.load import Settings
from edge.media.local_models.call import OCR, VOICE, WHISPER
from edge.vendors.openai_models import is_openai

from .price_advice import price_cautions, price_notes


def advice(settings: Settings) -> list[str]:
    """All of them: settings that are valid but may not be what the operator wants."""
    return [
        *cautions(settings),
        *price_cautions(settings),
        *notes(settings),
        *price_notes(settings),
    ]


def cautions(settings: Settings) -> list[str]:
    """Warnings: something is refused, or open to more people than it should be."""
    return [
        *_weak_password(settings),
        *_open_sign_in(settings),
        *_local_media(settings),
        *_small_storage(settings),
    ]


def notes(settings: Settings) -> list[str]:
    """Notes: nothing has to be done."""
    return [
        *(
            f"upstreams[{n}].base_url: {upstream.base_url} has no path; most providers need their "
            "version in it, such as /v1"
            for n, upstream in enumerate(settings.upstreams)
            if upstream.base_url is not None and not urlsplit(upstream.base_url).path
        ),
        *_dashboard(settings),
        *_objects(settings),
        *_nameless(settings),
        *_oidc(settings),
        *_multiplied(settings),
        *_endpoints(settings),
    ]


_LED_TO = {
    "videos.generations": ("videos.jobs",),
    "videos": ("videos.jobs",),
    "music.generations": ("music.jobs",),
    "uploads": ("files",),
    "responses.compact": ("responses",),
    "responses.input_tokens": ("responses",),
    "messages.count_tokens": ("messages",),
}
"""Endpoints that are of use only beside others."""
_MAKING = {
    "image": ("images.generations", "images.edits"),
    "audio": ("audio.speech", "music.generations"),
    "video": ("videos.generations", "videos"),
    "embedding": ("embeddings",),
    "text": (
        *("chat.completions", "messages", "responses", "completions"),
        *("audio.transcriptions", "audio.translations"),
    ),
}
"""Endpoints that answer with a modality."""


def _endpoints(settings: Settings) -> Iterator[str]:
    """Notes about endpoints that are offered without those they lead to, and about models that no
    endpoint calls. The gateway calls internal models itself."""
    offered = settings.offered
    for name, others in _LED_TO.items():
        missing = [other for other in others if other not in offered]
        if name in offered and missing:
            yield f"endpoints: {name} is offered without {', '.join(missing)}, which it leads to"
    if not settings.endpoints:
        return
    for n, model in enumerate(settings.models):
        reached = {name for kind in model.output_modalities for name in _MAKING.get(kind, ())}
        if not model.internal and reached and offered.isdisjoint(reached):
            names = " or ".join(sorted(reached))
            yield (
                f"models[{n}]: no endpoint that is offered calls {model.id}; add {names} to "
                "endpoints, or set internal = true"
            )


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


def _weak_password(settings: Settings) -> Iterator[str]:
    """Warnings about the password of administrators."""
    password = settings.dashboard.admin_password
    if password is not None and password.weak:
        yield (
            "dashboard.admin_password: its hash takes less work to guess than it should; make a "
            "new one with `penstock admin-password`"
        )


def _open_sign_in(settings: Settings) -> Iterator[str]:
    """Warnings about people who may sign in, and whose keys they see."""
    oidc = settings.dashboard.oidc
    if oidc is None:
        return
    if oidc.owner_claim not in ("sub", "email"):
        yield (
            f"dashboard.oidc.owner_claim: a person who can change the claim {oidc.owner_claim} at "
            "the provider sees the keys of others"
        )
    if oidc.issuer == "https://accounts.google.com" and not oidc.allowed_domains:
        yield "dashboard.oidc.allowed_domains: is not given, so every Google account may sign in"


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
