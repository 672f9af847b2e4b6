"""Authenticated encryption of small payloads that callers store, such as compaction summaries.

AES-256-GCM (NIST SP 800-38D) with a random nonce. Each purpose and owner has its own key, derived
from one secret with HMAC-SHA-256 as a pseudo-random function. So no other caller can use a text,
and random nonces stay far below their bound of 2^32 per key. The secret is in the store, so every
worker and replica can decrypt what any of them encrypted.
"""

import hmac
import os
from base64 import b64decode, urlsafe_b64encode
from binascii import Error

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from middlewares.stores.secret import SECRET_BYTES, SecretStore

MARK = "ps1-"
"""The prefix of sealed text: its version."""

_NAME = "seal"
_NONCE = 12


class Seal:
    """Encrypts and decrypts payloads. secret: 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes: expected {SECRET_BYTES}")
        self._secret = secret

    def seal(self, purpose: str, owner: str, payload: bytes) -> str:
        """Encrypt `payload` to text of letters, digits, - and _, somewhat over a third longer.

        purpose: of the payload, without NUL. owner: the principal that it belongs to.
        """
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher(purpose, owner).encrypt(nonce, payload, MARK.encode())
        return MARK + urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: str, owner: str, text: str) -> bytes | None:
        """Decrypt `text`. None for another secret, purpose or owner, and for altered text."""
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
    """The seal of all gateways on one store. Its secret is read, or created, at first use."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._seal: Seal | None = None

    @property
    def fetched(self) -> Seal:
        """The seal, after the first `seal`. Raises RuntimeError before."""
        if self._seal is None:
            raise RuntimeError("the seal has not been fetched")
        return self._seal

    async def seal(self) -> Seal:
        """Return the seal. Raises StoreUnavailable until its secret was read once."""
        if self._seal is None:
            self._seal = Seal(await self._store.secret(_NAME))
        return self._seal
