"""One request to the local models, and its failures."""

from typing import Any, Protocol

import msgspec

VOICE, WHISPER, OCR = "voice", "whisper-tiny", "ocr"

_encode = msgspec.json.Encoder().encode


class Refusal(Exception):
    """A request that cannot be answered. code: of OpenAI's errors. param: the member at fault."""

    def __init__(self, status: int, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or None
        self.param = param or None

    def body(self) -> bytes:
        """The error in OpenAI's form."""
        error = {
            "message": self.message,
            "type": "invalid_request_error" if self.status < 500 else "server_error",
            "param": self.param,
            "code": self.code,
        }
        return _encode({"error": error})


class Call(Protocol):
    """A request with its whole body, and the way to answer it."""

    content_type: str
    body: bytes

    async def head(self, content_type: str) -> None:
        """Begin an answer with status 200."""
        ...

    async def send(self, data: bytes) -> None:
        """Send a part of the answer; waits while the caller does not read."""
        ...


async def send_json(call: Call, content: Any) -> None:
    """Answer with JSON."""
    await call.head("application/json")
    await call.send(_encode(content))


def check_model(name: object, expected: str) -> None:
    """Raise Refusal if another model is asked for than the endpoint has."""
    if name != expected:
        raise Refusal(
            404,
            f"This endpoint has the model `{expected}` only.",
            code="model_not_found",
            param="model",
        )
