"""The provider: its discovery document, its keys, and the exchange of a code for an ID token."""

import asyncio
import logging
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
import msgspec

from edge.config.model import OidcConfig
from edge.untyped_json import number
from edge.upstreams.tls import tls_context

from .attempt import Attempt

T = TypeVar("T")

KEPT = 3600.0
"""Seconds for which metadata and keys are used before they are fetched again."""
KEYS_AGAIN = 30.0
"""Seconds between two fetches of the keys because a token names one that is not among them."""
FAILURE_KEPT = 5.0
"""Seconds for which the provider is not asked again after it gave no answer."""
TIMEOUT = 8.0
"""Seconds for one call."""
LARGEST_ANSWER = 1 << 20
_DISCOVERY = "/.well-known/openid-configuration"

_log = logging.getLogger(__name__)


class ProviderUnavailable(Exception):
    """The provider gives no answer that can be used. The message is for the log."""


class CodeRefused(Exception):
    """The provider does not take the code. The message is for the log."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The members of a discovery document that are read (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _KeySet(msgspec.Struct, frozen=True):
    keys: tuple[dict[str, Any], ...]


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class _Refusal(msgspec.Struct, frozen=True):
    error: str = ""


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


class IdentityProvider:
    """One provider. It lives as long as its configuration; nothing has to be closed.

    clock: seconds, monotonic.
    """

    def __init__(self, config: OidcConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._lock = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None
        self._metadata: Metadata | None = None
        self._metadata_at = 0.0
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self._keys_at: float | None = None
        self._failed_until = 0.0
        self._failure = ""

    async def metadata(self) -> Metadata:
        """The discovery document. Raises ProviderUnavailable."""
        async with self._lock:
            return await self._current_metadata()

    async def _current_metadata(self) -> Metadata:
        kept = self._metadata
        if kept is not None and self._clock() < self._metadata_at + KEPT:
            return kept
        found = await self._get(self.config.issuer.rstrip("/") + _DISCOVERY, Metadata)
        if found.issuer != self.config.issuer:
            raise self._unusable(f"its issuer is {found.issuer!r}, not dashboard.oidc.issuer")
        for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
            if not is_endpoint(url, like=self.config.issuer):
                raise self._unusable("an endpoint in its discovery document is not https")
        self._metadata, self._metadata_at = found, self._clock()
        return found

    async def keys(self, known: Callable[[Mapping[str, Any]], bool]) -> list[Mapping[str, Any]]:
        """The keys that `known` picks. They are fetched again if there is none among those that
        are kept, unless that was done just before. Raises ProviderUnavailable."""
        async with self._lock:
            now = self._clock()
            if self._keys_at is None or now >= self._keys_at + KEPT:
                await self._fetch_keys()
            picked = [key for key in self._keys if known(key)]
            if not picked and self._keys_at is not None and now >= self._keys_at + KEYS_AGAIN:
                await self._fetch_keys()
                picked = [key for key in self._keys if known(key)]
            return picked

    async def _fetch_keys(self) -> None:
        metadata = await self._current_metadata()
        self._keys = (await self._get(metadata.jwks_uri, _KeySet)).keys
        self._keys_at = self._clock()

    def sign_in_url(self, metadata: Metadata, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser goes to sign in."""
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.config.client_id,
                "redirect_uri": redirect_uri,
                "scope": " ".join(self.config.scopes),
                "state": attempt.state,
                "nonce": attempt.nonce,
                "code_challenge": attempt.challenge,
                "code_challenge_method": "S256",
            }
        )
        url = metadata.authorization_endpoint
        return f"{url}{'&' if '?' in url else '?'}{query}"

    async def id_token(self, code: str, attempt: Attempt, redirect_uri: str) -> str:
        """The ID token for a code. Raises CodeRefused, ProviderUnavailable."""
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers: dict[str, str] = {}
        secret = self.config.client_secret
        methods = metadata.token_endpoint_auth_methods_supported
        if secret is None:
            form["client_id"] = self.config.client_id
        elif "client_secret_basic" in methods or "client_secret_post" not in methods:
            pair = f"{quote_plus(self.config.client_id)}:{quote_plus(secret.reveal())}"
            headers["authorization"] = "Basic " + b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": self.config.client_id, "client_secret": secret.reveal()}
        status, body = await self._call("POST", metadata.token_endpoint, headers, form)
        if status in (400, 401, 403):
            error = _error_of(body)
            if error == "invalid_grant":
                raise CodeRefused(error)
            # Not the person's fault: the client, its secret or its redirect URI is not as
            # registered.
            raise self._unusable(f"the token endpoint answers {status} {error}".rstrip())
        if status != 200:
            raise self._unusable(f"the token endpoint answers {status}")
        return self._decoded(body, _Tokens).id_token

    # Calls

    async def _get(self, url: str, type_: type[T]) -> T:
        if self._clock() < self._failed_until:
            raise ProviderUnavailable(self._failure)
        try:
            status, body = await self._call("GET", url, {}, None)
            if status != 200:
                raise self._unusable(f"{urlsplit(url).path} answers {status}")
            return self._decoded(body, type_)
        except ProviderUnavailable as failure:
            self._failed_until, self._failure = self._clock() + FAILURE_KEPT, str(failure)
            raise

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._tls is None:
                    # The authorities of a TLS context take long to read.
                    self._tls = await asyncio.to_thread(tls_context, ca=self.config.ca)
                async with (
                    httpx.AsyncClient(verify=self._tls, trust_env=False) as client,
                    client.stream(
                        method,
                        url,
                        headers=[("accept", "application/json"), *headers.items()],
                        data=form,
                        timeout=TIMEOUT,
                    ) as response,
                ):
                    body = bytearray()
                    async for piece in response.aiter_bytes():
                        body += piece
                        if len(body) > LARGEST_ANSWER:
                            raise self._unusable(f"its answer has more than {LARGEST_ANSWER} bytes")
                    return response.status_code, bytes(body)
        except TimeoutError:
            raise self._unusable("no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise self._unusable(f"{type(error).__name__}: {error}") from None

    def _decoded(self, body: bytes, type_: type[T]) -> T:
        try:
            return msgspec.json.Decoder(type_, float_hook=number).decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unusable(f"its answer cannot be read: {error}") from None

    def _unusable(self, reason: str) -> ProviderUnavailable:
        _log.warning("sign-in by dashboard.oidc: %s", reason)
        return ProviderUnavailable(reason)


def provider_of(
    config: OidcConfig | None, clock: Callable[[], float] = time.monotonic
) -> IdentityProvider | None:
    """The provider of a configuration, if it has one."""
    return None if config is None else IdentityProvider(config, clock=clock)


def is_endpoint(url: str, *, like: str) -> bool:
    """Whether `url` is https, or http like the issuer."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and parts.scheme in ("https", urlsplit(like).scheme)


def _error_of(body: bytes) -> str:
    """The code of a refusal (RFC 6749, 5.2), if it is one that may be logged."""
    try:
        error = _decode_refusal(body).error
    except (msgspec.DecodeError, RecursionError):
        return ""
    return error if error.isascii() and error.isprintable() and len(error) <= 64 else ""
