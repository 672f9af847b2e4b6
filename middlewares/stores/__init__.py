"""Where keys and responses are kept: the protocols, the stores in memory, and the directory in
front of a store of keys.

The SQL stores are `middlewares.stores.sql` and `.sql_responses`, imported by name, so that a
program which does not use them does not load SQLAlchemy.
"""

from .directory import Grant, KeyDirectory
from .keys import Key, KeyStore, Mode, StoreUnavailable, UnknownKey, digest, mint, prefix
from .memory import MemoryKeyStore, MemoryResponseStore, MemorySecretStore
from .responses import Kept, KeptTurn, ResponseStore
from .secret import SecretStore

__all__ = [
    "Grant",
    "Kept",
    "KeptTurn",
    "Key",
    "KeyDirectory",
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
