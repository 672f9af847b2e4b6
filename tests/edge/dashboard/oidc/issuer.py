"""A small provider of OpenID Connect that can be made to lie, on a port of this machine.

    async with Issuer.opened() as issuer:
        code = issuer.grant(url_that_the_browser_was_sent_to)

It checks the client, its redirect URI and PKCE as a provider must, and takes a code once.
"""

import asyncio
import hmac
import json
import warnings
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from secrets import token_urlsafe
from time import time
from typing import Any, Self
from urllib.parse import parse_qs, quote_plus, urlsplit

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

CLIENT = "penstock"
CLIENT_SECRET = "canary:client/secret&6f"
REDIRECT = "http://localhost:8080/app/oidc/callback"

Json = dict[str, Any]
Key = RSAKey | ECKey | OKPKey


def packed(value: bytes | Json) -> str:
    """base64url without padding, of JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def _first_key() -> RSAKey:
    """To make one takes longer than a test."""
    return RSAKey.generate_key(2048, {"kid": "one"}, private=True)


class Issuer:
    """claims: of the person who signs in. change: makes the claims of a token into others.
    sign: makes the token from the claims. metadata: members that replace those of the discovery
    document. answers: what a path answers, in place of what it should. fetched: the paths that
    were asked for. clock: Unix seconds."""

    url: str

    def __init__(self) -> None:
        self.claims: Json = {"sub": "ann-1", "name": "Ann"}
        self.change: Callable[[Json], Json] = lambda claims: claims
        self.sign: Callable[[Json], str] = self.signed
        self.metadata: Json = {}
        self.answers: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.clock: Callable[[], float] = time
        self.stopped = False
        self.auth_method = "client_secret_basic"
        self.key: Key = _first_key()
        self.algorithm = "RS256"
        self.published: list[Json] | None = None
        self._grants: dict[str, tuple[str, str]] = {}

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        issuer = cls()
        server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0)
        issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield issuer
        finally:
            server.close()

    def settings(self, **changes: Any) -> Json:
        """`dashboard.oidc` for this provider."""
        given = {"issuer": self.url, "client_id": CLIENT, "client_secret": CLIENT_SECRET}
        return {**given, **changes}

    def rotate(self, kid: str) -> None:
        """Sign by another key from now on, and publish that only."""
        self.key = RSAKey.generate_key(2048, {"kid": kid}, private=True)

    # What the browser is sent to

    def grant(self, location: str) -> str:
        """The code that a browser gets which was sent to `location`. Asserts what is asked for."""
        assert location.startswith(f"{self.url}/authorize?"), location
        query = {name: value for name, (value,) in parse_qs(urlsplit(location).query).items()}
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["redirect_uri"] == REDIRECT
        assert "openid" in query["scope"].split()
        assert query["code_challenge_method"] == "S256"
        assert len(query["state"]) >= 43
        assert len(query["nonce"]) >= 43
        code = token_urlsafe(16)
        self._grants[code] = (query["code_challenge"], query["nonce"])
        return code

    # What the gateway asks

    def _token(self, form: dict[str, str], headers: dict[str, str]) -> tuple[int, Json]:
        pair = f"{quote_plus(CLIENT)}:{quote_plus(CLIENT_SECRET)}"
        basic = "Basic " + b64encode(pair.encode()).decode()
        if self.auth_method == "client_secret_basic":
            known = headers.get("authorization") == basic and "client_secret" not in form
        elif self.auth_method == "client_secret_post":
            known = (form.get("client_id"), form.get("client_secret")) == (CLIENT, CLIENT_SECRET)
            known = known and "authorization" not in headers
        else:
            known = form.get("client_id") == CLIENT and "authorization" not in headers
        if not known:
            return 401, {"error": "invalid_client"}
        challenge, nonce = self._grants.pop(form["code"], ("", ""))
        digest = packed(sha256(form["code_verifier"].encode()).digest())
        if digest != challenge or form["redirect_uri"] != REDIRECT:
            return 400, {"error": "invalid_grant"}
        now = int(self.clock())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce}
        token = self.sign(self.change({**claims, **self.claims}))
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": token}

    def signed(self, claims: Json, **header: Any) -> str:
        """A token as it should be, but for what is given."""
        head = {"alg": self.algorithm, "kid": self.key.kid, **header}
        head = {name: value for name, value in head.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # short keys, old names
            return jwt.encode(head, claims, self.key, algorithms=[self.algorithm])

    def signed_by_hand(self, header: Json, claims: Json) -> str:
        """With a header that no library writes."""
        assert isinstance(self.key, RSAKey)
        signed = f"{packed(header)}.{packed(claims)}"
        key = self.key.private_key
        assert key is not None
        return f"{signed}.{packed(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"

    def unsigned(self, claims: Json) -> str:
        """alg none."""
        return f"{packed({'alg': 'none', 'kid': self.key.kid})}.{packed(claims)}."

    def signed_with_public_key(self, claims: Json) -> str:
        """HS256, for which the public key is the secret."""
        signed = f"{packed({'alg': 'HS256', 'kid': self.key.kid})}.{packed(claims)}"
        secret = self.key.as_pem(private=False)
        return f"{signed}.{packed(hmac.digest(secret, signed.encode(), 'sha256'))}"

    def _document(self) -> Json:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": [self.auth_method],
            "userinfo_endpoint": f"{self.url}/userinfo",
            **self.metadata,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.stopped:
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split(" ")[1]
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.fetched.append(path)
        if path in self.answers:
            writer.write(self.answers[path])
            return await writer.drain()
        status, found = 200, dict[str, Any]()
        if path == "/.well-known/openid-configuration":
            found = self._document()
        elif path == "/keys":
            own = self.key.as_dict(private=False)
            found = {"keys": [own] if self.published is None else self.published}
        elif path == "/token":
            form = {name: value for name, (value,) in parse_qs(body.decode()).items()}
            status, found = self._token(form, headers)
        else:
            status = 404
        text = json.dumps(found).encode()
        start = f"HTTP/1.1 {status} x\r\ncontent-length: {len(text)}\r\n\r\n"
        writer.write(start.encode() + text)
        await writer.drain()
