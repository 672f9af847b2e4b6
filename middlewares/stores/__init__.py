"""Where keys and responses are kept: the protocols, the stores in memory, and the directory in
front of a store of keys.

Import the SQL stores from their modules, such as `middlewares.stores.keys.sql` and
`middlewares.stores.responses.sql`: a program that does not use them does not load SQLAlchemy.
"""

from middlewares.stores.keys.base import (
    Key,
    KeyPrefixes,
    KeyStore,
    Mode,
    UnknownKey,
    digest,
    mint,
    prefix,
)
from middlewares.stores.keys.directory import KeyDirectory
from middlewares.stores.keys.known_grants import Grant
from middlewares.stores.responses.base import Kept, KeptTurn, ResponseStore

from .errors import StoreUnavailable
from .memory import MemoryKeyStore, MemoryResponseStore, MemorySecretStore
from .secret import SecretStore

__all__ = [
    "Grant",
    "Kept",
    "KeptTurn",
    "Key",
    "KeyDirectory",
    "KeyPrefixes",
    "KeyStore",
    "MemoryKeyStore",
    "MemoryResponseStore",
    "MemorySecretStore",
    "Mode",
    "ResponseStore",
    "SecretStore",
    "StoreUnavailable",
    "UnknownKey",
    "digest",
    "mint",
    "prefix",
]
