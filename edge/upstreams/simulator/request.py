"""A request to the provider, and what all of its endpoints have in common. No I/O."""

from collections.abc import Mapping

import msgspec

from edge.upstreams import Header
from middlewares.exchange import Dialect

from .account import Account
from .answer import SimulatedAnswer, plain
from .controls import Controls
from .form import SimulatedForm
from .prompt import PromptRejected
from .refusals import error_body, overflow_body


class SimulatorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the provider. identity: its digest in hexadecimal.

    version, betas: of the Anthropic API, from its headers. form: a multipart body. account: whose
    files and jobs it may use.
    """

    path: str
    body: bytes
    dialect: Dialect
    identity: str
    controls: Controls
    version: str = ""
    betas: bool = False
    method: str = "POST"
    query: Mapping[str, str] = {}
    headers: Mapping[bytes, bytes] = {}
    form: SimulatedForm | None = None
    account: Account

    @property
    def content_type(self) -> str:
        return self.headers.get(b"content-type", b"").decode("latin-1")


def controlled(request: SimulatorRequest, words: str) -> SimulatorRequest:
    """The request under further controls. Raises PromptRejected."""
    try:
        return msgspec.structs.replace(request, controls=request.controls.with_words(words))
    except ValueError as error:
        raise PromptRejected(400, str(error)) from None


def directed(request: SimulatorRequest, words: str) -> SimulatorRequest:
    """Apply the directive of the prompt, and drop the faults outside of their `share`."""
    request = controlled(request, words)
    if int(request.identity[:8], 16) % 100 < request.controls.share:
        return request
    spared = msgspec.structs.replace(request.controls, fault={})
    return msgspec.structs.replace(request, controls=spared)


def refused(request: SimulatorRequest, tokens: int = 0) -> SimulatedAnswer | None:
    """The error answer selected by the faults, or None."""
    controls = request.controls
    slow = Controls(
        fault={name: n for name, n in controls.fault.items() if name.startswith("slow-")}
    )
    headers = vendor_headers(request)
    if controls.retry_after is not None:
        headers += ((b"retry-after", b"%d" % controls.retry_after),)
    if status := int(controls.fault.get("status", 0)):
        body = error_body(request.dialect, status, request.identity)
        return plain(body, slow, headers=headers, status=status)
    if "overflow" in controls.fault:
        body = overflow_body(request.dialect, request.identity, tokens)
        return plain(body, slow, headers=headers, status=400)
    return None


def vendor_headers(request: SimulatorRequest) -> tuple[Header, ...]:
    """The headers a vendor adds; a gateway must let none of them through."""
    request_id = f"req_{request.identity[:24]}".encode()
    if request.dialect == "anthropic":
        return (
            (b"request-id", request_id),
            (b"anthropic-organization-id", b"org-simsecret77"),
            (b"anthropic-ratelimit-requests-limit", b"4000"),
            (b"anthropic-ratelimit-requests-remaining", b"3999"),
            (b"anthropic-ratelimit-requests-reset", b"2026-01-01T00:00:01Z"),
            (b"server", b"SimProvider"),
        )
    return (
        (b"x-request-id", request_id),
        (b"openai-organization", b"org-simsecret77"),
        (b"openai-processing-ms", b"7"),
        (b"openai-version", b"2020-10-01"),
        (b"x-ratelimit-limit-requests", b"10000"),
        (b"x-ratelimit-remaining-requests", b"9999"),
        (b"x-ratelimit-reset-requests", b"6ms"),
        (b"server", b"SimProvider"),
    )
