"""The group `upstreams`: name lookup, TCP, TLS, the key, and the names of models.

An upstream over HTTP is asked for its list of models, by the client, proxy, authorities and
headers of its requests. That costs nothing. Only with `--probe` are models called.
"""

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from functools import cache, partial
from urllib.parse import urlsplit

import msgspec

from edge.config.load import Settings
from edge.config.model import UpstreamConfig
from edge.config.units import Duration
from edge.upstreams import TimedOut, UpstreamFailure
from edge.upstreams.build import TLS, providers_of
from edge.upstreams.model_list import ModelList, ask_models
from edge.upstreams.provider import Provider

from . import clock
from .amounts import counted
from .certificates import Certificates
from .finding import Finding
from .probe import PATIENCE, Findings, Probe
from .subject import Subject

REMOTE = ("openai", "responses", "anthropic")
CONNECT, TOTAL = PATIENCE - 0.6, PATIENCE - 0.3
"""Seconds: below the patience of the probe, so that the step that takes long is named."""
_SHOWN = 5
"""Names of missing models that are shown."""
_LONGEST_REASON = 160
"""Characters of what an upstream says."""
_VERIFY = re.compile(r"certificate verify failed: (.*?)(?: \(_ssl|$)")


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe of each upstream."""
    certificates = Certificates()
    tls = cache(certificates.context)
    settings = subject.settings
    for n, upstream in enumerate(settings.upstreams):
        what = f"upstreams.{upstream.name}"
        if upstream.dialect in REMOTE:
            reach = partial(_remote, settings, n, certificates, bounded_provider(settings, n, tls))
            yield Probe(what, reach, outward=True)
        else:
            yield Probe(what, partial(_local, upstream))


def bounded_provider(
    settings: Settings, n: int, tls: TLS, *, total: float = TOTAL
) -> Provider | ValueError:
    """The provider of an upstream, with time limits of a probe; or why it cannot be made."""
    upstream = settings.upstreams[n]
    bounded = msgspec.structs.replace(
        upstream,
        connect_timeout=Duration(min(upstream.connect_timeout, CONNECT)),
        total_timeout=Duration(min(upstream.total_timeout, total)),
    )
    try:
        only = msgspec.structs.replace(settings, upstreams=(bounded,))
        return providers_of(only, tls=tls)[upstream.name]
    except ValueError as error:
        return error


async def _local(upstream: UpstreamConfig) -> Findings:
    what = f"upstreams.{upstream.name}"
    if upstream.dialect == "claude-cli":
        found = shutil.which(upstream.command)
        if found is None:
            yield Finding(
                "error",
                what,
                f"there is no program {upstream.command} in PATH",
                "install it, or give its path as `command`",
            )
        else:
            yield Finding("ok", what, f"{found} is there; whether it is signed in is not checked")
    elif upstream.dialect == "simulator":
        yield Finding("ok", what, "is built in")
    else:
        yield Finding("ok", what, "runs on this machine")


async def _remote(
    settings: Settings, n: int, certificates: Certificates, provider: Provider | ValueError
) -> Findings:
    upstream = settings.upstreams[n]
    what, path = f"upstreams.{upstream.name}", f"upstreams[{n}]"
    if isinstance(provider, ValueError):
        yield Finding("error", what, str(provider), f"check {path}.ca and {path}.client_cert")
        return
    before = time.time()
    try:
        answer = await ask_models(provider)
    except UpstreamFailure as failure:
        yield of_failure(what, path, failure, provider)
        return
    except ValueError as error:
        yield Finding("error", what, f"cannot be asked: {error}")
        return
    finally:
        await provider.upstream.aclose()
    host = urlsplit(upstream.base_url or "").hostname or ""
    if found := clock.against_date(what, answer.date, before):
        yield found
    yield of_answer(what, path, answer, provider, certificates.shown(host))
    if ending := certificates.ending(what, host):
        yield ending
    if missing := missing_models(settings, upstream, answer):
        yield missing


def of_failure(what: str, path: str, failure: UpstreamFailure, provider: Provider) -> Finding:
    """The finding of an upstream that did not answer."""
    reason = provider.without_secrets(failure.reason)
    if isinstance(failure, TimedOut):
        if failure.phase == "connect":
            step = failure.step or "connection"
            return Finding("error", what, f"{step}: no answer in time", _hint(step, path))
        said = "accepts connections, but does not answer in time"
        return Finding("error", what, said, "check that it works")
    if found := _VERIFY.search(reason):
        return Finding(
            "error", what, f"its certificate is refused: {found[1]}", _hint(found[1], path)
        )
    return Finding("error", what, reason[:_LONGEST_REASON], _hint(reason, path))


def _hint(reason: str, path: str) -> str:
    for text, hint in (
        ("name lookup", f"check {path}.base_url, and the name servers of this machine"),
        ("expired", "it has to be renewed there, or the clock of this machine is wrong"),
        ("not yet valid", "check the clock of this machine"),
        ("Hostname mismatch", f"{path}.base_url has to name a host of the certificate"),
        ("IP address mismatch", f"{path}.base_url has to name a host of the certificate"),
        ("self-signed", f"name its authority as {path}.ca"),
        ("local issuer", f"name its authority as {path}.ca"),
        ("certificate required", f"name a client certificate as {path}.client_cert"),
        ("WRONG_VERSION_NUMBER", f"it speaks no TLS there: {path}.base_url may have to be http"),
        ("TLS handshake", f"check {path}.base_url, and what is between here and there"),
        ("Connect call failed", f"check {path}.base_url: nothing listens there"),
        ("refused", f"check {path}.base_url: nothing listens there"),
        ("proxy", f"check {path}.proxy"),
        ("Proxy", f"check {path}.proxy"),
        ("TCP connection", f"check {path}.base_url, and the firewalls between here and there"),
    ):
        if text in reason:
            return hint
    return ""


def of_answer(what: str, path: str, answer: ModelList, provider: Provider, tls: str) -> Finding:
    """The finding of an upstream that answered."""
    status = answer.status
    if status == 200:
        has = "no list of models that can be read"
        if answer.names is not None:
            has = counted(len(answer.names), "model")
        return Finding("ok", what, ", ".join(filter(None, (f"takes our key, has {has}", tls))))
    said = f"answers {status}{_words(answer, provider)}"
    if status in (401, 403):
        hint = f"check {path}.api_key" + (", which is not given" if not _has_key(provider) else "")
        return Finding("error", what, f"refuses our key: {said}", hint)
    if status in (404, 405, 501):
        without = f"is reachable, and has no list of models (status {status})"
        return Finding(
            "ok",
            what,
            ", ".join(filter(None, (without, tls))),
            f"if calls fail, check {path}.base_url",
        )
    if 300 <= status < 400:
        return Finding("error", what, said, f"{path}.base_url has to name where it redirects to")
    if status == 429:
        return Finding("warning", what, said, "its limit is reached, or its credit is used up")
    return Finding("error" if status >= 500 else "warning", what, said)


def _has_key(provider: Provider) -> bool:
    return any(name in (b"authorization", b"x-api-key", b"api-key") for name, _ in provider.headers)


class _Said(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Said | str = ""


_decode = msgspec.json.Decoder(_Refusal).decode


def _words(answer: ModelList, provider: Provider) -> str:
    """What it says of its refusal: one short line without its credentials; "" if it is no JSON."""
    try:
        error = _decode(answer.body).error
    except (msgspec.MsgspecError, RecursionError):
        return ""
    text = " ".join((error if isinstance(error, str) else error.message).split())
    if not text:
        return ""
    text = provider.without_secrets(text)
    return f": {text[:_LONGEST_REASON]}{'…' if len(text) > _LONGEST_REASON else ''}"


def missing_models(
    settings: Settings, upstream: UpstreamConfig, answer: ModelList
) -> Finding | None:
    """A warning about targets whose name is not in the upstream's list."""
    host = urlsplit(upstream.base_url or "").hostname or ""
    if not answer.names or host.endswith((".openai.azure.com", ".azure.com")):
        return None  # Azure lists models, and is called by the names of deployments
    known = _spellings(answer.names)
    missing = [name for name in _targets(settings, upstream.name) if not _known(name, known)]
    if not missing:
        return None
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    said = f"its list has no {', '.join(missing[:_SHOWN])}{more}"
    return Finding("warning", f"upstreams.{upstream.name}", said, "check models[].targets")


def _targets(settings: Settings, upstream: str) -> Iterator[str]:
    """The names of models that requests have at an upstream, each once."""
    seen: dict[str, None] = {}
    for model in settings.models:
        for target in model.targets:
            name, _, wanted = target.partition("/")
            if name == upstream and "*" not in wanted:
                seen[wanted] = None
    yield from seen


def _spellings(names: frozenset[str]) -> Mapping[str, None]:
    return dict.fromkeys(name.removeprefix("models/") for name in names)


def _known(name: str, known: Mapping[str, None]) -> bool:
    """Whether a name is in a list. Aliases of dated models, and variants behind a colon, are."""
    plain = name.removeprefix("models/")
    if plain in known or plain.partition(":")[0] in known or f"{plain}:latest" in known:
        return True
    alias = plain.removesuffix("-latest")
    dated = re.compile(re.escape(alias) + r"-\d{4}-?\d{2}-?\d{2}")
    return any(dated.fullmatch(one) for one in known)
