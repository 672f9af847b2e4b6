"""What an upstream's refusal means to the caller. Decides without I/O.

Upstream text never crosses. What does cross is rebuilt from it: the class, the path of the field
at fault, the numbers of a context overflow, and the few phrases by which coding agents decide to
compact, to drop a thinking block or to leave a field out.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from email.utils import parsedate_to_datetime

import msgspec

from middlewares.exchange import Dialect
from middlewares.problem import Problem

from . import Header

_LONGEST_WAIT = 3600

OVERFLOW = re.compile(
    r"(?:prompt|input)[_ ](?:is[_ ])?too[_ ]long|context[_ ](?:length|window|limit|size)"
    r"|maximum context|maximum prompt length|too many tokens|tokens exceed|reduce the length"
    r"|exceeds? the maximum (?:number of )?tokens|input token count|model token limit"
    r"|exceeds the limit of \d|greater than the context|request entity too large",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"string too long", re.IGNORECASE)
_NOT_OVERFLOW = re.compile(r"rate limit|too many requests|quota|per minute", re.IGNORECASE)
_SUM = re.compile(r"(\d+) \+ (\d+) > (\d+)")
_USED_OVER_MAX = re.compile(r"(\d+)\D{0,20}>\D{0,20}(\d+)")
_MAX_THEN_USED = re.compile(
    r"maximum context length is (\d+).{0,80}?(?:resulted in|requested) (\d+)", re.DOTALL
)
_COUNT = re.compile(r"\d[\d,]{2,}")
_FILTERED = re.compile(r"content[_ ](?:policy|filter)|safety system", re.IGNORECASE)
_PATH = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+|\[\d+\])*")
_LEADING_PATH = re.compile(r"([a-z_]+(?:\.[\w-]+)*): (.*)", re.DOTALL)
_UNSUPPORTED = re.compile(
    r"unsupported parameter|is not supported|does not support|extra inputs are not permitted",
    re.IGNORECASE,
)
_SYSTEM_ROLE = re.compile(r"role\W{1,3}system\W", re.IGNORECASE)
_OUR_BILL = re.compile(r"credit balance|billing", re.IGNORECASE)
_SECRET = re.compile(
    r"(\b(?:sk|pk|rk|gsk|xai)[-_]|\bAIza|\bBearer\s+"
    r"|key\b(?:\W{1,3}[a-z]+){0,2}\W{1,3}(?=[\w.*-]*[\d*]))[\w.*-]{6,}",
    re.IGNORECASE,
)
_READ = 4096
"""Characters of a body that is not an error object of ours to know, searched all the same."""
_ALWAYS = frozenset(("messages", "max_tokens", "model", "input"))
"""Fields an upstream may name although the caller left them out."""


class _Detail(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class _Body(msgspec.Struct):
    error: _Detail | str | None = None


_decode = msgspec.json.Decoder(_Body).decode


def _read(body: bytes) -> _Detail:
    try:
        error = _decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Detail()
    if isinstance(error, str):
        return _Detail(message=error)
    return error or _Detail()


def retry_after(headers: Iterable[Header], now: float) -> int | None:
    """Seconds to wait as the upstream asked, at most an hour; None when it did not say.

    now: Unix seconds, for a date (RFC 9110, section 10.2.3).
    """
    for name, value in headers:
        if name == b"retry-after":
            text = value.decode("latin-1").strip()
            try:
                seconds = float(text)
            except ValueError:
                try:
                    seconds = parsedate_to_datetime(text).timestamp() - now
                except ValueError:
                    return None
            if not 0 <= seconds < float("inf"):
                return 1
            return max(1, min(_LONGEST_WAIT, round(seconds)))
    return None


def redacted(text: str) -> str:
    """`text` for the log, less what looks like a credential: upstreams echo them."""
    return _SECRET.sub(r"\1***", text)


def problem_of(
    status: int,
    headers: Iterable[Header],
    body: bytes,
    *,
    dialect: Dialect,
    members: Collection[str],
    spelled: Mapping[str, str] | None = None,
    now: float,
) -> Problem:
    """The Problem that a response with a status other than 2xx amounts to.

    dialect: the caller's; it decides the wording of a context overflow.
    members: names of the fields the caller sent. A path at fault crosses only when it begins with
        one of them, since anything else may be a name of the upstream's.
    spelled: where the request was translated, the caller's own field for each of the upstream's;
        only that name crosses, since what lies below it is another dialect's.
    now: Unix seconds.
    """
    detail = _read(body)
    text = detail.message or body[:_READ].decode("utf-8", "replace")
    reason = f"upstream said {status}: {redacted(body[:500].decode('utf-8', 'replace'))}"
    code = str(detail.code or "")
    if status == 429:
        if "insufficient_quota" in (detail.type, code) or _OUR_BILL.search(code):
            return Problem("upstream_unavailable", reason=reason)
        return Problem("rate_limited", retry_after=retry_after(headers, now), reason=reason)
    if status in (503, 529):
        wait = retry_after(headers, now)
        return Problem("upstream_unavailable", retry_after=wait, reason=reason)
    if status in (408, 504):
        return Problem("upstream_timeout", reason=reason)
    if status in (400, 413, 422):
        at_fault = _field(detail, text, members, spelled)
        whole = "input" if dialect == "responses" else "messages"
        whole = (spelled or {}).get("messages", whole)
        return _client_fault(status, detail, text, code, dialect, at_fault, whole, reason)
    return Problem("upstream_error", reason=reason)


def _client_fault(
    status: int,
    detail: _Detail,
    text: str,
    code: str,
    dialect: Dialect,
    param: str | None,
    whole: str,
    reason: str,
) -> Problem:
    overflow = OVERFLOW.search(text) or (
        detail.param in ("messages", "input") and _TOO_LONG.search(text)
    )
    if OVERFLOW.search(code) or (overflow and not _NOT_OVERFLOW.search(text)):
        return Problem(
            "context_length_exceeded",
            message=_overflow(text, dialect),
            param=whole,
            reason=reason,
        )
    if status == 413:
        return Problem("request_too_large", reason=reason)
    if _OUR_BILL.search(detail.message or "") or _OUR_BILL.search(detail.type or ""):
        return Problem("upstream_unavailable", reason=reason)
    if _FILTERED.search(code) or _FILTERED.search(text):
        return Problem("content_filtered", reason=reason)
    if _SYSTEM_ROLE.search(text):
        said = "messages: role `system` is not supported"
        return Problem("invalid_request", message=said, param="messages", reason=reason)
    if _UNSUPPORTED.search(text):
        issue = "Extra inputs are not permitted" if "xtra inputs" in text else "not supported"
        if param is None:
            return Problem("invalid_request", message=f"A field is {issue}.", reason=reason)
        said = (
            f"{param}: {issue}"
            if issue[0] == "E"
            else f"Unsupported parameter: '{param}' is {issue}."
        )
        return Problem("invalid_request", message=said, param=param, issue=issue, reason=reason)
    if "signature" in text and "thinking" in text:
        said = f"{param or 'messages'}: Invalid `signature` in `thinking` block"
        return Problem("invalid_request", message=said, param=param or "messages", reason=reason)
    if param is not None:
        said = f"The model did not accept the value of `{param}`."
        return Problem("invalid_request", message=said, param=param, reason=reason)
    return Problem(
        "invalid_request", message="The model did not accept the request.", reason=reason
    )


def _field(
    detail: _Detail, text: str, members: Collection[str], spelled: Mapping[str, str] | None
) -> str | None:
    """The path of the field at fault, when it is one of the caller's."""
    path = detail.param if detail.param and _PATH.fullmatch(detail.param) else None
    if path is None and (found := _LEADING_PATH.match(text)):
        path = found[1]
    if path is None:
        return None
    root = re.split(r"[.\[]", path, maxsplit=1)[0]
    if spelled is not None:
        return spelled.get(root)
    return path if root in _ALWAYS or root in members else None


def _overflow(text: str, dialect: Dialect) -> str:
    if found := _SUM.search(text):
        used, more, most = found.groups()
        if dialect == "anthropic":
            return (
                f"input length and `max_tokens` exceed context limit: {used} + {more} > {most}, "
                "decrease input length or `max_tokens` and try again"
            )
        used = str(int(used) + int(more))
    elif found := _USED_OVER_MAX.search(text):
        used, most = found.groups()
    elif found := _MAX_THEN_USED.search(text):
        most, used = found.groups()
    elif len(counts := [int(n.replace(",", "")) for n in _COUNT.findall(text)]) == 2:
        used, most = str(max(counts)), str(min(counts))
    elif dialect == "anthropic":
        return "prompt is too long"
    else:
        return (
            "This model's maximum context length was exceeded. "
            "Please reduce the length of the messages."
        )
    if dialect == "anthropic":
        return f"prompt is too long: {used} tokens > {most} maximum"
    return (
        f"This model's maximum context length is {most} tokens. However, your messages resulted "
        f"in {used} tokens. Please reduce the length of the messages."
    )
