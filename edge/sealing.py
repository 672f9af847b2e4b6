"""Small payloads that callers keep for us and only this gateway can read: compaction summaries.

AES-256-GCM (NIST SP 800-38D) with a random nonce. Each purpose and owner has a key of its own, made
from one secret by HMAC-SHA-256 as a pseudo-random function, so that a text is worth nothing in
another caller's hands and random nonces are far from their bound of 2^32 per key. The secret is in
the store, so every worker and replica reads what any of them sealed.
"""

import hmac
import os
from base64 import b64decode, urlsafe_b64encode
from binascii import Error

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from middlewares.stores.secret import SECRET_BYTES, SecretStore

MARK = "ps1-"
"""What sealed text begins with: its version."""

_NAME = "seal"
_NONCE = 12


class Seal:
    """Seals and opens. secret: 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes: expected {SECRET_BYTES}")
        self._secret = secret

    def seal(self, purpose: str, owner: str, payload: bytes) -> str:
        """`payload` as text of letters, digits, - and _, a third longer and then some.

        purpose: what it is for, without a NUL. owner: whose it is.
        """
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher(purpose, owner).encrypt(nonce, payload, MARK.encode())
        return MARK + urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: str, owner: str, text: str) -> bytes | None:
        """What was sealed; None when it was not us, not for this, not this owner's, or altered."""
        if not text.startswith(MARK) or not text.isascii():
            return None
        body = text[len(MARK) :]
        try:
            sealed = b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True)
        except Error:
            return None
        if urlsafe_b64encode(sealed).rstrip(b"=").decode() != body:
            return None  # spare bits set: another text for the same bytes
        nonce, rest = sealed[:_NONCE], sealed[_NONCE:]
        if len(nonce) < _NONCE:
            return None
        try:
            return self._cipher(purpose, owner).decrypt(nonce, rest, MARK.encode())
        except InvalidTag:
            return None

    def _cipher(self, purpose: str, owner: str) -> AESGCM:
        if "\0" in purpose:
            raise ValueError(f"purpose {purpose!r}: expected a text without NUL")
        message = f"{purpose}\0{owner}".encode("utf-8", "surrogatepass")
        return AESGCM(hmac.digest(self._secret, message, "sha256"))


class Sealing:
    """The seal of the gateways on one store; its secret is fetched, or made, when first wanted."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._seal: Seal | None = None

    @property
    def fetched(self) -> Seal:
        """The seal, once `seal` has given it. Raises RuntimeError before."""
        if self._seal is None:
            raise RuntimeError("the seal has not been fetched")
        return self._seal

    async def seal(self) -> Seal:
        """The same seal each time. Raises StoreUnavailable while its secret was never read."""
        if self._seal is None:
            self._seal = Seal(await self._store.secret(_NAME))
        return self._seal
