"""Signatures of tokens (RFC 7515), by joserfc."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

_IMPORT: dict[str, Callable[[Any], Any]] = {
    "RSA": RSAKey.import_key,
    "EC": ECKey.import_key,
    "OKP": OKPKey.import_key,
}


def claims_of(token: str, key: Mapping[str, Any], algorithm: str) -> Mapping[str, Any]:
    """The claims of a token that this key has signed by this algorithm. key: a public one, as a
    key set has it (RFC 7517). Raises ValueError, also for keys that are too short to be safe."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecurityWarning)
        # RFC 9864 names the curve, "Ed25519"; providers still write the old name.
        warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)
        try:
            made = _IMPORT[key["kty"]](dict(key))
            return jwt.decode(token, made, algorithms=[algorithm]).claims
        except (JoseError, SecurityWarning, ValueError, TypeError, KeyError) as error:
            raise ValueError(type(error).__name__) from None
