"""The group `upstreams` with `--probe`: one small call of each target, which costs money."""

import time
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import msgspec

from edge.config.load import Settings
from edge.upstreams import Request, UpstreamFailure
from edge.upstreams.model_list import ModelList, read_body
from edge.upstreams.provider import Provider, forwarded_headers
from edge.upstreams.tls import tls_context
from edge.vendors.openai_models import is_openai

from .finding import Finding
from .probe import Findings, Probe
from .subject import Subject
from .upstreams import REMOTE, bounded_provider, of_answer, of_failure

PATIENCE = 20.0
"""Seconds of one call."""
_TEXT = "Answer with one word: ok"
_TOKENS = 16
"""The least that the Responses API takes."""


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe of each target that makes text, if models may be called."""
    if not subject.billable:
        return
    settings, tls = subject.settings, cache(tls_context)
    places = {upstream.name: n for n, upstream in enumerate(settings.upstreams)}
    seen: set[str] = set()
    for model in settings.models:
        for target in model.targets:
            upstream, _, name = target.partition("/")
            n = places[upstream]
            remote = settings.upstreams[n].dialect in REMOTE
            if "*" in name or target in seen or not remote or "text" not in model.output_modalities:
                continue
            seen.add(target)
            provider = bounded_provider(settings, n, tls, total=PATIENCE - 1)
            if isinstance(provider, Provider):
                run = partial(_call, settings, n, name, provider)
                yield Probe(f"target {target}", run, outward=True, patience=PATIENCE)


async def _call(settings: Settings, n: int, name: str, provider: Provider) -> Findings:
    what, path = f"target {provider.name}/{name}", f"upstreams[{n}]"
    dialect = settings.upstreams[n].dialect
    end, body = request_of(dialect, name)
    headers = list(provider.headers)
    known = {header for header, _ in headers}
    if dialect == "anthropic":
        headers += [pair for pair in forwarded_headers(dialect, ()) if pair[0] not in known]
    sent = provider.with_body_settings(msgspec.json.encode(body), [])
    began = time.perf_counter()
    try:
        response = await provider.open(Request(b"POST", provider.target(end), tuple(headers), sent))
        answer = ModelList(response.status, 0.0, body=await read_body(response))
        response.close()
    except UpstreamFailure as failure:
        yield of_failure(what, path, failure, provider)
        return
    finally:
        await provider.upstream.aclose()
    if answer.status == 200:
        yield Finding("ok", what, f"answered in {time.perf_counter() - began:.1f} s")
    else:
        finding = of_answer(what, path, answer, provider, "")
        state = "warning" if answer.status == 429 else "error"
        yield msgspec.structs.replace(finding, state=state)


def request_of(dialect: str, name: str) -> tuple[bytes, dict[str, Any]]:
    """Path and body of the smallest call."""
    turns = [{"role": "user", "content": _TEXT}]
    if dialect == "responses":
        limits = {"max_output_tokens": _TOKENS, "store": False}
        return b"/responses", {"model": name, "input": _TEXT, **limits}
    if dialect == "anthropic":
        return b"/messages", {"model": name, "messages": turns, "max_tokens": _TOKENS}
    bound = "max_completion_tokens" if is_openai(name) else "max_tokens"
    return b"/chat/completions", {"model": name, "messages": turns, bound: _TOKENS}
