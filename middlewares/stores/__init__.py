"""Where keys are kept: the protocols, the store in memory, and the directory in front of a store.

The SQL store is `middlewares.stores.sql`, imported by name, so that a program which does not use
it does not load SQLAlchemy.
"""

from .directory import Grant, KeyDirectory
from .keys import Key, KeyStore, Mode, StoreUnavailable, UnknownKey, digest, mint, prefix
from .memory import MemoryKeyStore

__all__ = [
    "Grant",
    "Key",
    "KeyDirectory",
    "KeyStore",
    "MemoryKeyStore",
    "Mode",
    "StoreUnavailable",
    "UnknownKey",
    "digest",
    "mint",
    "prefix",
]
