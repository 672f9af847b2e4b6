"""Map an upstream's error response to a Problem. No I/O.

The caller never sees the upstream's text unless the operator discloses it. It sees what is rebuilt
from it: the kind of error, the path of the field at fault, the numbers of a context overflow, and
the phrases by which coding agents decide to compact, drop a thinking block or leave a field out.

Modules of `edge.vendors.errors`:

    body          error body of any shape -> messages, codes, paths
    causes        whose fault it is: rate limit, operator, content filter
    members       the member of the request that the error names
    overflow      wording of a context overflow
    redact        messages without secrets and addresses
    retry_after   how long to wait
"""

import re
from collections.abc import Collection, Iterable, Mapping

from msgspec import Raw

from edge.upstreams import Header
from edge.vendors.errors.body import ErrorBody, read_error
from edge.vendors.errors.causes import (
    is_beyond_rate,
    is_filtered,
    is_of_headers,
    is_of_model,
    is_operators,
    is_rate,
    is_unpaid,
    vetoes_overflow,
)
from edge.vendors.errors.members import UNSUPPORTED, at_fault, callers_path, root_of
from edge.vendors.errors.overflow import OVERFLOW, TOO_LONG, overflow_message
from edge.vendors.errors.redact import disclosed, redacted
from edge.vendors.errors.retry_after import retry_after, wait_in
from middlewares.exchange import Dialect
from middlewares.problem import Problem

_READ = 4096
"""Characters that are searched in a body of unknown shape."""
_SYSTEM_ROLE = re.compile(r"role\W{1,3}system\W", re.IGNORECASE)
_PAGE = re.compile(rb"\s*(?:<!doctype html|<html|<\?xml|<head)", re.IGNORECASE)
_PROVOKED = (411, 414, 415, 417, 431, 494)
"""Statuses about the form of a request: length, URL, type, expectation, headers (494: nginx)."""
_CALLERS = (400, 413, 422)
"""Statuses that the caller may have caused."""
_OF_MODELS = (400, 403, 404, 422)
"""Statuses of an unknown model."""
_FILE = Raw(b"null")
"""Stands for a file of a form, which is no parameter: its format may be what is not supported."""


def problem_of(
    status: int,
    headers: Iterable[Header],
    body: bytes,
    *,
    dialect: Dialect,
    fields: Mapping[str, Raw],
    spelled: Mapping[str, str] | None = None,
    files: Collection[str] = (),
    chosen: str = "",
    disclosing: bool = False,
    now: float,
) -> Problem:
    """The Problem for a response whose status is not 2xx.

    dialect: the caller's; it decides the wording of a context overflow.
    fields: members of the caller's body. The path at fault is reported only when it begins with one
        of them; any other may be an internal name of the upstream.
    spelled: for a translated request, the caller's field for each field of the upstream. Only that
        name is reported, since anything below it belongs to another dialect.
    files: names of the files of the caller's form, which are members too.
    chosen: the model's name if the caller chose it through a wildcard of the catalog. An unknown
        model is then the caller's fault and does not count against the target's health.
    disclosing: whether the caller gets the upstream's message, redacted.
    now: Unix seconds.
    """
    if files:
        fields = {**fields, **dict.fromkeys(files, _FILE)}
    said = read_error(body)
    reason = f"upstream said {status}: {redacted(body[:500].decode('utf-8', 'replace'))}"
    wait = retry_after(headers, now)
    if wait is None:
        wait = wait_in(said.wait, said.text)
    members = fields if spelled is None else spelled
    if chosen and status in _OF_MODELS and is_of_model(said, at_fault(said, members)):
        problem = _no_model(chosen, dialect)
    else:
        problem = _problem(status, said, body, wait, dialect, fields, spelled)
    problem.reason = reason
    if disclosing and said.messages:
        disclose(problem, "; ".join(said.messages))
    return problem


def _no_model(name: str, dialect: Dialect) -> Problem:
    said = f"The model `{name}` does not exist or you do not have access to it."
    if dialect == "anthropic":  # the vendor's own wording, which its clients know
        said = f"model: {name}"
    return Problem("model_not_found", message=said, param="model", held=False)


def disclose(problem: Problem, said: str) -> None:
    """Set the message of `problem` to `said`, the upstream's text, redacted.

    A context overflow keeps the wording that clients recognize; a rate limit keeps its wait.
    """
    if problem.kind == "context_length_exceeded":
        return
    problem.message = disclosed(said)
    if problem.kind == "rate_limited" and "try again in" not in problem.message:
        problem.message += f" Please try again in {problem.retry_after}s."


def _problem(
    status: int,
    said: ErrorBody,
    body: bytes,
    wait: int | None,
    dialect: Dialect,
    fields: Mapping[str, Raw],
    spelled: Mapping[str, str] | None,
) -> Problem:
    if status == 429:
        if is_unpaid(said):
            return Problem("upstream_unavailable")
        return Problem("rate_limited", retry_after=wait, held=not is_beyond_rate(said))
    if status in (503, 529):
        return Problem("upstream_unavailable", retry_after=wait)
    if status in (408, 504):
        return Problem("upstream_timeout")
    if status in _CALLERS:
        return _client_fault(status, said, body, wait, dialect, fields, spelled)
    if status in (403, 451) and is_filtered(said):
        return Problem("content_filtered")
    if status == 403 and is_rate(said):
        return Problem("rate_limited", retry_after=wait)
    # An error caused by one caller's request does not count against the target's health.
    provoked = status in _PROVOKED or (status == 403 and _is_page(said, body))
    return Problem("upstream_error", held=not provoked)


def _is_page(said: ErrorBody, body: bytes) -> bool:
    """Whether a firewall answered and not the API: with a web page, or a text that does not blame
    our key or account."""
    if _PAGE.match(body) is not None:
        return True
    return body.lstrip()[:1] not in (b"{", b"[", b'"') and not is_operators(said, None)


def _client_fault(
    status: int,
    said: ErrorBody,
    body: bytes,
    wait: int | None,
    dialect: Dialect,
    fields: Mapping[str, Raw],
    spelled: Mapping[str, str] | None,
) -> Problem:
    text = said.text or body[:_READ].decode("utf-8", "replace")
    path = at_fault(said, fields if spelled is None else spelled)
    overflow = OVERFLOW.search(text) or (
        path is not None and root_of(path) in ("messages", "input") and TOO_LONG.search(text)
    )
    coded = any(OVERFLOW.search(code) for code in said.codes)
    if coded or (overflow and not vetoes_overflow(said)):
        whole = "input" if dialect == "responses" else "messages"
        return Problem(
            "context_length_exceeded",
            message=overflow_message(text, dialect),
            param=(spelled or {}).get("messages", whole),
        )
    if is_rate(said) and (overflow or status == 413 or path is None):
        return Problem("rate_limited", retry_after=wait, held=not is_beyond_rate(said))
    if is_filtered(said):
        return Problem("content_filtered")
    if is_operators(said, path):
        return Problem("upstream_error")
    if is_of_headers(said) and path is None:
        return Problem("upstream_error", held=False)
    if status == 413:
        return Problem("request_too_large")
    param = _param(path, fields, spelled)
    if _SYSTEM_ROLE.search(text):
        said_so = "messages: role `system` is not supported"
        return Problem("invalid_request", message=said_so, param="messages")
    if UNSUPPORTED.search(text) and (param is None or fields.get(param) is not _FILE):
        return _unsupported(param, text)
    if "signature" in text and "thinking" in text:
        said_so = f"{param or 'messages'}: Invalid `signature` in `thinking` block"
        return Problem("invalid_request", message=said_so, param=param or "messages")
    if param is not None:
        said_so = f"The model did not accept the value of `{param}`."
        return Problem("invalid_request", message=said_so, param=param)
    return Problem("invalid_request", message="The model did not accept the request.")


def _unsupported(param: str | None, text: str) -> Problem:
    issue = "Extra inputs are not permitted" if "xtra inputs" in text else "not supported"
    if param is None:
        return Problem("invalid_request", message=f"A field is {issue}.")
    said = (
        f"{param}: {issue}" if issue[0] == "E" else f"Unsupported parameter: '{param}' is {issue}."
    )
    return Problem("invalid_request", message=said, param=param, issue=issue)


def _param(
    path: str | None, fields: Mapping[str, Raw], spelled: Mapping[str, str] | None
) -> str | None:
    if path is None or path == "model":
        return None
    return callers_path(path, fields) if spelled is None else spelled.get(root_of(path))
