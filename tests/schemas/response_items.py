"""The life of one item of a stream of Responses, from `added` to `done`."""

from typing import Any

from .laws import expect

_EMPTY = {"message": "content", "function_call": "arguments", "custom_tool_call": "input"}
_CALL_TEXT = {"function_call": "arguments", "custom_tool_call": "input"}
_PARTS = {
    "message": {"output_text", "refusal"},
    "reasoning": {"reasoning_text"},
}
_DELTA = {
    "response.output_text.delta": "output_text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning_text",
    "response.reasoning.delta": "reasoning_text",
    "response.reasoning_summary_text.delta": "summary_text",
}
_DONE = {name.removesuffix("delta") + "done": part for name, part in _DELTA.items()}
_CALL_DELTA = {
    "response.function_call_arguments.delta": "function_call",
    "response.custom_tool_call_input.delta": "custom_tool_call",
}
_CALL_DONE = {name.removesuffix("delta") + "done": item for name, item in _CALL_DELTA.items()}


class Item:
    """Takes the events of one item. Raises AssertionError where they do not fit."""

    def __init__(self, item: dict[str, Any], at: str) -> None:
        self.id = item.get("id", "")
        self._item = item
        self._kind = item["type"]
        self._lists: dict[str, list[dict[str, Any]]] = {"content": [], "summary": []}
        self._part: _Part | None = None
        self._text = ""
        self._text_done = False
        expect(self.id, at, "an item without an id")
        expect(item.get("status", "in_progress") == "in_progress", at, f"is {item.get('status')}")
        for key in {_EMPTY.get(self._kind, ""), "summary", "content"} & item.keys():
            expect(not item[key], at, f"{key} is not empty at the start")

    def take(self, kind: str, data: dict[str, Any], at: str) -> None:
        """Any event of the item between its first and its last."""
        if kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
            self._part_added(data, at)
        elif kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
            self._part_done(data, at)
        elif kind in _DELTA or kind in _DONE or kind == "response.output_text.annotation.added":
            self._current(data, at).take(kind, data, at)
        elif kind in _CALL_DELTA:
            expect(self._kind == _CALL_DELTA[kind], at, f"inside a {self._kind}")
            expect(not self._text_done, at, "a delta after done")
            self._text += data["delta"]
        elif kind in _CALL_DONE:
            expect(self._kind == _CALL_DONE[kind], at, f"inside a {self._kind}")
            expect(not self._text_done, at, "done again")
            self._same(data[_CALL_TEXT[self._kind]], self._text, at)
            if "name" in data:
                self._same(data["name"], self._item["name"], at)
            self._text_done = True
        else:  # of a tool that the vendor runs, such as web_search_call
            expect(kind.startswith(f"response.{self._kind}."), at, f"inside a {self._kind}")

    def finish(self, item: dict[str, Any], at: str) -> None:
        """The last event; `item` has to be what the others made."""
        expect(self._part is None, at, "a part is still open")
        for key in ("id", "type", "call_id", "name", "role"):
            self._same(item.get(key), self._item.get(key), f"{at}.item.{key}")
        expect(item.get("status") != "in_progress", at, "is still in progress")
        if self._kind in _CALL_TEXT:
            expect(self._text_done, at, "its arguments were never done")
            self._same(item[_CALL_TEXT[self._kind]], self._text, at)
        for key, parts in self._lists.items():
            if self._kind in ("message", "reasoning") and (parts or key in item):
                self._same(item.get(key), parts, f"{at}.item.{key}")

    def _part_added(self, data: dict[str, Any], at: str) -> None:
        expect(self._part is None, at, "a part while another is open")
        summary = "summary_index" in data
        place = len(self._lists["summary" if summary else "content"])
        index = data["summary_index" if summary else "content_index"]
        expect(index == place, at, f"index {index}, and it is part {place}")
        allowed = {"summary_text"} if summary else _PARTS.get(self._kind, set())
        if summary and self._kind != "reasoning":
            allowed = set()
        kind = data["part"]["type"]
        expect(kind in allowed, at, f"{kind} in a {self._kind}")
        self._part = _Part(data["part"], index, at)

    def _part_done(self, data: dict[str, Any], at: str) -> None:
        self._current(data, at).finish(data["part"], at)
        key = "summary" if "summary_index" in data else "content"
        self._lists[key].append(data["part"])
        self._part = None

    def _current(self, data: dict[str, Any], at: str) -> "_Part":
        if self._part is None:
            raise AssertionError(f"{at}: no part is open")
        key = "summary_index" if self._part.kind == "summary_text" else "content_index"
        expect(data.get(key) == self._part.index, at, f"the open part is {key} {self._part.index}")
        return self._part

    @staticmethod
    def _same(found: Any, wanted: Any, at: str) -> None:
        expect(found == wanted, at, f"{found!r}, and it was {wanted!r}")


class _Part:
    def __init__(self, part: dict[str, Any], index: int, at: str) -> None:
        self.kind = part["type"]
        self.index = index
        self._key = "refusal" if self.kind == "refusal" else "text"
        self._text = ""
        self._annotations: list[Any] = []
        self._done = False
        expect(part[self._key] == "", at, "the part has text at the start")
        expect(not part.get("annotations"), at, "the part has annotations at the start")

    def take(self, kind: str, data: dict[str, Any], at: str) -> None:
        expect(not self._done, at, "the text was done")
        if kind == "response.output_text.annotation.added":
            expect(self.kind == "output_text", at, f"inside {self.kind}")
            place = len(self._annotations)
            expect(data["annotation_index"] == place, at, f"annotation_index is not {place}")
            self._annotations.append(data["annotation"])
        elif kind in _DELTA:
            expect(self.kind == _DELTA[kind], at, f"inside {self.kind}")
            self._text += data["delta"]
        else:
            expect(self.kind == _DONE[kind], at, f"inside {self.kind}")
            self._complete(data, at)
            self._done = True

    def finish(self, part: dict[str, Any], at: str) -> None:
        expect(self._done, at, "its text was never done")
        expect(part["type"] == self.kind, at, f"{part['type']}, and it was {self.kind}")
        self._complete(part, at)
        if self.kind == "output_text":
            shown = part["annotations"]
            expect(shown == self._annotations, at, f"annotations {shown}, not {self._annotations}")

    def _complete(self, data: dict[str, Any], at: str) -> None:
        text = data[self._key]
        expect(text == self._text, at, f"{text!r}, and the deltas say {self._text!r}")
