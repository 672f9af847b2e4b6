"""The grammar of a stream of Responses.

    created in_progress item* (completed | incomplete)
    or, anywhere after the second: error failed

    message, reasoning   added (part_added delta* annotation* done part_done)* done
    calls                added delta* arguments_done done

`sequence_number` counts events from 0; one item is open at a time, and `output_index` is its place
in the final output, which repeats the finished items.
"""

from typing import Any

from .framing import DONE, Event
from .laws import expect
from .response_items import Item
from .summary import Summary, of_response
from .surfaces import check

_BEGINNING = ("response.created", "response.in_progress")
_ENDS = {"response.completed": "completed", "response.incomplete": "incomplete"}
_STABLE = ("id", "created_at", "model", "object")


def read(events: list[Event], *, error: bool) -> Summary:
    """Raises AssertionError where the grammar is broken. error: it has to end with an error."""
    stream = _Stream(error=error)
    for number, event in enumerate(events):
        expect(event.data != DONE, event.at, "OpenAI sends no [DONE] here")
        try:
            check("response.event", event.data)
        except AssertionError as broken:
            raise type(broken)(f"{event.at}: {broken}") from None
        found = event.data["sequence_number"]
        expect(found == number, event.at, f"sequence_number {found}, not {number}")
        stream.take(number, event)
    return stream.end()


class _Stream:
    def __init__(self, *, error: bool) -> None:
        self._error = error
        self._response: dict[str, Any] = {}
        self._done: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._open: Item | None = None
        self._failing = False
        self._over = ""

    def take(self, number: int, event: Event) -> None:
        at, data = event
        kind = data["type"]
        expect(not self._over, at, f"comes after {self._over}")
        if number < len(_BEGINNING):
            expect(kind == _BEGINNING[number], at, f"{_BEGINNING[number]} comes here")
            self._whole(data["response"], at)
            return
        expect(kind not in _BEGINNING, at, "comes at the beginning only")
        expect(not self._failing or kind == "response.failed", at, "only the failure may follow")
        if kind == "error":
            expect(self._error, at, f"an error: {data['message']}")
            self._failing = True
        elif kind == "response.failed":
            expect(self._failing, at, "no error event before it")
            self._whole(data["response"], at)
            self._output(data["response"], at)
            self._over = kind
        elif kind in _ENDS:
            expect(self._open is None, at, "an item is still open")
            self._whole(data["response"], at)
            self._output(data["response"], at)
            self._over = kind
        elif kind == "response.output_item.added":
            self._added(data, at)
        else:
            self._within(kind, data, at)

    def _whole(self, response: dict[str, Any], at: str) -> None:
        """The ids of the response never change."""
        if self._response:
            before = [self._response[key] for key in _STABLE]
            now = [response[key] for key in _STABLE]
            expect(now == before, at, f"{now} was {before}")
        self._response = response

    def _output(self, response: dict[str, Any], at: str) -> None:
        expect(
            response["output"] == self._done,
            f"{at}.response.output",
            f"{response['output']} is not what the items were: {self._done}",
        )

    def _added(self, data: dict[str, Any], at: str) -> None:
        expect(self._open is None, at, "an item while another is open")
        self._placed(data, at)
        self._open = Item(data["item"], at)
        expect(self._open.id not in self._seen, at, f"the id {self._open.id} again")
        self._seen.add(self._open.id)

    def _placed(self, data: dict[str, Any], at: str) -> None:
        place = len(self._done)
        expect(data["output_index"] == place, at, f"output_index {data['output_index']}: {place}")

    def _within(self, kind: str, data: dict[str, Any], at: str) -> None:
        if self._open is None:
            raise AssertionError(f"{at}: no item is open")
        self._placed(data, at)
        if kind != "response.output_item.done":
            expect(data["item_id"] == self._open.id, at, f"the open item is {self._open.id}")
            self._open.take(kind, data, at)
            return
        self._open.finish(data["item"], at)
        self._done.append(data["item"])
        self._open = None

    def end(self) -> Summary:
        if self._error:
            expect(self._over == "response.failed", "stream", "it does not end with its failure")
        else:
            expect(self._over in _ENDS, "stream", "no terminal event")
        return of_response(self._response)
