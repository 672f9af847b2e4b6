"""Webhooks: the end of a job is reported to the URL that its owner gave.

By Standard Webhooks (standardwebhooks.com), so that `openai.webhooks.unwrap` and other libraries
verify it. Each key has a secret of its own, made from one that only this gateway has; the owner
reads it at /v1/webhooks/secret.
"""

import hmac
from collections.abc import Mapping
from typing import Protocol

from middlewares.stores.jobs.base import Job
from middlewares.stores.secret import SecretStore
from middlewares.webhooks import event, secret_text, signed_headers

from .views import own

SECRET = "webhooks"  # noqa: S105  the name of one
PAUSES = (30.0, 300.0, 1800.0, 3 * 3600.0, 20 * 3600.0)
"""Seconds after a try without success; the try after the last is the sixth."""


class Poster(Protocol):
    """Sends a POST to a URL of a caller's, as the guarded fetcher does."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, owner: str) -> int:
        """The status of the answer. Raises Problem where the URL cannot be reached."""
        ...


class Signer:
    """Secrets of webhooks by owner, and signatures with them."""

    def __init__(self, secrets: SecretStore) -> None:
        self._secrets = secrets
        self._root: bytes | None = None

    async def secret(self, owner: str) -> str:
        """The secret of an owner as text. Raises StoreUnavailable."""
        return secret_text(await self._key(owner))

    async def headers(self, owner: str, message: str, at: int, body: bytes) -> dict[str, str]:
        """The headers of a webhook. message: its id, the same at each try. Raises
        StoreUnavailable."""
        return signed_headers(await self._key(owner), message, at, body)

    async def _key(self, owner: str) -> bytes:
        if self._root is None:
            self._root = await self._secrets.secret(SECRET)
        return hmac.digest(self._root, owner.encode(), "sha256")


class Notices:
    """Reports the ends of jobs."""

    def __init__(self, signer: Signer, poster: Poster) -> None:
        self._signer = signer
        self._poster = poster

    async def report(self, job: Job, now: float) -> bool:
        """Whether the URL took the report. Raises Problem, StoreUnavailable."""
        message = f"evt_{job.id.partition('_')[2]}"
        created_at = int(job.finished_at or now)
        body = event(message, f"{job.kind}.{job.state}", created_at, own(job))
        headers = await self._signer.headers(job.owner, message, int(now), body)
        status = await self._poster.post(job.callback, headers, body, job.owner)
        return 200 <= status < 300


def next_try(notices: int) -> float | None:
    """Seconds until the next try, after so many; None after the last."""
    return PAUSES[notices - 1] if notices <= len(PAUSES) else None
