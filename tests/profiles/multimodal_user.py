"""A caller of a multimodal gateway with a key of its own, and the parts of its messages."""

import base64
import hashlib
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import openai

from tests.e2e.program import DEADLINE, Gateway

CHAT = "/v1/chat/completions"
VOICE = "gpt-4o-mini-tts"
SPOKEN = "The gate opens. The water runs."


class User(NamedTuple):
    """A caller with a key of its own, on the plan with the highest rate."""

    gateway: Gateway
    key: str
    http: httpx.Client
    sdk: openai.OpenAI

    def chat(self, model: str, *parts: Any, **more: Any) -> httpx.Response:
        """A chat by plain HTTP."""
        content = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)
        body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
        return self.http.post(CHAT, json=body)

    def said(self, model: str, *parts: Any, **more: Any) -> str:
        """The text of a chat that must succeed."""
        answer = self.chat(model, *parts, **more)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text

    def upload(self, name: str, data: bytes) -> str:
        """The id of a new file."""
        return self.sdk.files.create(file=(name, data), purpose="user_data").id

    def spoken(self) -> bytes:
        """A WAV in which `SPOKEN` is said."""
        speech = self.sdk.audio.speech.create(
            model=VOICE, voice="alloy", input=SPOKEN, response_format="wav"
        )
        return speech.content


def user_of(gateway: Gateway, **fields: Any) -> User:
    key = gateway.new_key("user", **{"plan": "400-per-minute", **fields})
    bearer = {"authorization": f"Bearer {key}"}
    http = httpx.Client(base_url=gateway.url, headers=bearer, trust_env=False, timeout=DEADLINE)
    sdk = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)
    return User(gateway, key, http, sdk)


def announced(user: User, path: str, size: int) -> httpx.Response:
    """The answer to a body of `size` bytes of which none is sent."""
    connection = HTTPConnection(urlsplit(user.gateway.url).netloc, timeout=DEADLINE)
    with closing(connection):
        connection.putrequest("POST", path)
        connection.putheader("authorization", f"Bearer {user.key}")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(size))
        connection.endheaders()
        answer = connection.getresponse()
        headers = answer.getheaders()
        return httpx.Response(
            answer.status,
            headers=headers,
            content=answer.read(),
            request=httpx.Request("POST", f"{user.gateway.url}{path}"),
        )


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def digest(data: bytes) -> str:
    """By what the simulator says that it saw some bytes."""
    return f"{len(data)} bytes sha256 {hashlib.sha256(data).hexdigest()[:12]}"
