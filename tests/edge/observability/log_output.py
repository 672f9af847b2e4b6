"""A file for log lines, in memory."""

import io
import json
from typing import Any


class Out(io.BytesIO):
    """A file that counts its writes and may refuse them."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        if self.error is not None:
            raise self.error
        return super().write(data)


def lines(out: Out) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]
