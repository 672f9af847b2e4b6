"""A caller with a key of its own, and what it does with jobs."""

import asyncio
from typing import Any

import httpx

from .program import DEADLINE, Gateway

FINAL = ("succeeded", "failed", "cancelled", "completed")


class Caller:
    """A caller with a key of its own."""

    def __init__(self, gateway: Gateway, plan: str | None = None, **fields: Any) -> None:
        """fields: further ones of its key."""
        self.gateway = gateway
        if plan is not None:
            fields["plan"] = plan
        self.key = gateway.new_key("caller", **fields)
        self.http = httpx.AsyncClient(
            base_url=gateway.url,
            headers={"authorization": f"Bearer {self.key}"},
            trust_env=False,
            timeout=DEADLINE,
        )

    async def create(self, prompt: str, model: str = "clip", **more: Any) -> dict[str, Any]:
        headers = more.pop("headers", {})
        kind = "music" if model == "song" else "videos"
        made = await self.http.post(
            f"/v1/{kind}/generations",
            json={"model": model, "prompt": prompt, **more},
            headers=headers,
        )
        assert made.status_code == 202, made.text
        job: dict[str, Any] = made.json()
        return job

    async def ended(self, path: str) -> dict[str, Any]:
        """The job at `path` once it has ended."""
        async with asyncio.timeout(DEADLINE):
            while True:
                shown: dict[str, Any] = (await self.http.get(path)).json()
                if shown["status"] in FINAL:
                    return shown
                await asyncio.sleep(0.2)

    async def limits(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get("/v1/limits")).json()["windows"][0]
        return found

    async def taken(self) -> float:
        """Credits that are used or reserved."""
        window = await self.limits()
        return round(float(window["used"]) + float(window["reserved"]), 9)

    async def settles(self, amount: float) -> None:
        """Wait until so much is used and nothing is reserved."""
        async with asyncio.timeout(DEADLINE):
            while await self.taken() != amount:
                await asyncio.sleep(0.05)
