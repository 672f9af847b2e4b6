"""No request fails for its trace."""

import pytest

import edge.proxy.answer_tap
import edge.proxy.attempt_trace
from edge.proxy.answer_tap import TappedResponse
from edge.proxy.attempt_trace import request_notes
from middlewares.exchange import Attempt, Exchange, Target


def fails(*_: object, **__: object) -> dict[str, object]:
    raise KeyError("canary of a prompt")


class Closed:
    """A response of which only the end is seen."""

    status = 200
    headers: list[tuple[bytes, bytes]] = []
    closed = False

    async def read(self) -> bytes:
        return b""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("large", [False, True])
async def test_a_request_whose_attributes_cannot_be_made_has_those_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], large: bool
) -> None:
    monkeypatch.setattr(edge.proxy.attempt_trace, "request_content", fails)
    assert await request_notes(Exchange(large=large), content=True) == {}
    shown = capsys.readouterr()
    assert "canary" not in shown.out + shown.err


def test_an_answer_whose_attributes_cannot_be_made_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge.proxy.answer_tap, "answer_attributes", fails)
    response, attempt = Closed(), Attempt(Target("up", "model"), 0.0, notes={"kept": 1})
    TappedResponse(response, attempt, stream=False, content=False).close()
    assert response.closed
    assert attempt.notes == {"kept": 1}
