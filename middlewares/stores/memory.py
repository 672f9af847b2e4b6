"""Keys in this process's memory: for tests, demos and programs that load their keys at start."""

from collections.abc import Callable

import msgspec

from .keys import Key, UnknownKey


class MemoryKeyStore:
    """A `KeyStore` that forgets when the process ends and is seen by no other process."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._ids: dict[bytes, str] = {}
        self._revision = 0

    async def find(self, digest: bytes) -> Key | None:
        return self._keys.get(self._ids.get(digest, ""))

    async def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    async def match(self, text: str) -> list[Key]:
        return [key for key in self._keys.values() if text in (key.id, key.prefix, key.name)]

    async def every(self) -> list[Key]:
        return list(self._keys.values())

    async def revision(self) -> int:
        return self._revision

    async def changes(self, since: int, limit: int) -> list[Key]:
        later = [key for key in self._keys.values() if key.revision > since]
        return sorted(later, key=lambda key: key.revision)[:limit]

    async def insert(self, key: Key) -> Key:
        if key.id in self._keys or key.digest in self._ids:
            raise ValueError(f"id {key.id!r}: a key with this id or secret exists")
        return self._write(key)

    async def update(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        before = self._keys.get(key_id)
        if before is None:
            raise UnknownKey(key_id)
        after = change(before)
        for gone in (before.digest, before.previous_digest):
            if gone is not None:
                del self._ids[gone]
        return self._write(after)

    def _write(self, key: Key) -> Key:
        self._revision += 1
        key = msgspec.structs.replace(key, revision=self._revision)
        self._keys[key.id] = key
        self._ids[key.digest] = key.id
        if key.previous_digest is not None:
            self._ids[key.previous_digest] = key.id
        return key
