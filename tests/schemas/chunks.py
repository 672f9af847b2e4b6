"""The grammar of a stream of Chat Completions, and of the older completions.

chunk+ usage? [DONE]        or, anywhere before a finish: chunk* error
"""

from typing import Any

from . import laws
from .framing import DONE, Event
from .laws import expect
from .summary import Summary, call_of, custom_call_of, of_choices, stop_of_finish
from .surfaces import check


def read(
    events: list[Event], *, error: bool, include_usage: bool | None, completions: bool = False
) -> Summary:
    """Raises AssertionError where the grammar is broken.

    error: the stream has to end with an error. include_usage: what the caller asked; None: any.
    """
    stream = _Stream(_Text if completions else _Choice)
    last = events.pop() if events else Event("stream", None)
    if error:
        expect(last.data != DONE, last.at, "a stream that failed ends without [DONE]")
        check("openai.error", last.data)
    else:
        expect(last.data == DONE, last.at, "the stream ends without [DONE]")
    for event in events:
        expect(event.data != DONE, event.at, "[DONE] is not the last")
        expect("error" not in event.data, event.at, f"an error: {event.data}")
        try:
            check("text_completion.chunk" if completions else "chat.completion.chunk", event.data)
        except AssertionError as broken:
            raise type(broken)(f"{event.at}: {broken}") from None
        stream.take(event)
    return stream.end(error=error, include_usage=include_usage)


class _Choice:
    """One choice of a chat, put together from its deltas."""

    def __init__(self) -> None:
        self.text = ""
        self.refusal = ""
        self.thinking = ""
        self.calls: list[dict[str, str]] = []
        self.legacy: dict[str, str] | None = None
        self.finish: str | None = None
        self._role = False

    def take(self, choice: dict[str, Any], at: str) -> None:
        expect(self.finish is None, at, "the choice has finished")
        delta = choice["delta"]
        if not self._role:
            expect(delta.get("role") == "assistant", at, "the first chunk has no role")
            expect(delta.get("content", "") in ("", None), at, "the first chunk has content")
        else:
            expect("role" not in delta, at, "the role again")
        self._role = True
        self.text += delta.get("content") or ""
        self.refusal += delta.get("refusal") or ""
        self.thinking += delta.get("reasoning_content") or ""
        for fragment in delta.get("tool_calls") or []:
            self._fragment(fragment, at)
        if legacy := delta.get("function_call"):
            self._legacy_fragment(legacy, at)
        self.finish = choice["finish_reason"]
        if self.finish is not None:
            expect(not any(delta.values()), at, f"content beside the finish: {delta}")

    def _fragment(self, fragment: dict[str, Any], at: str) -> None:
        index = fragment["index"]
        expect(index <= len(self.calls), at, f"call {index} after {len(self.calls)} calls")
        kind = "custom" if "custom" in fragment else "function"
        part = fragment.get(kind) or {}
        if index == len(self.calls):
            expect(fragment.get("id"), at, "the first fragment of a call has no id")
            expect(fragment.get("type") == kind, at, "the first fragment has no type")
            expect(part.get("name"), at, "the first fragment of a call has no name")
            call = {"id": fragment["id"], "name": part["name"], "kind": kind, "text": ""}
            self.calls.append(call)
        else:
            extra = sorted({"id", "type", "name"} & {*fragment, *part})
            expect(not extra, at, f"a later fragment of call {index} has {extra}")
            expect(self.calls[index]["kind"] == kind, at, f"call {index} is no {kind} call")
        text = part.get("input" if kind == "custom" else "arguments")
        expect(isinstance(text, str), at, "a fragment without arguments")
        self.calls[index]["text"] += text

    def _legacy_fragment(self, fragment: dict[str, Any], at: str) -> None:
        if self.legacy is None:
            expect(fragment.get("name"), at, "the first fragment of the call has no name")
            self.legacy = {"name": fragment["name"], "text": ""}
        else:
            expect("name" not in fragment, at, "a later fragment of the call has a name")
        self.legacy["text"] += fragment.get("arguments") or ""

    def end(self, at: str) -> Summary:
        finish = self.finish
        calls = []
        for n, call in enumerate(self.calls):
            if call["kind"] == "custom":
                calls.append(custom_call_of(call["id"], call["name"], call["text"]))
                continue
            if finish is not None:
                laws.input_of_call(call["text"], f"{at}, call {n}", finish)
            calls.append(call_of(call["id"], call["name"], call["text"]))
        laws.different([call["id"] for call in self.calls], at)
        if self.legacy is not None:
            calls.append(call_of("", self.legacy["name"], self.legacy["text"]))
        if finish is not None:
            laws.finish_fits(finish, bool(calls), at)
        stop = "error" if finish is None else stop_of_finish(finish)
        return Summary(self.text, self.thinking, tuple(calls), stop, None, self.refusal)


class _Text:
    """One choice of the older completions."""

    def __init__(self) -> None:
        self.text = ""
        self.finish: str | None = None

    def take(self, choice: dict[str, Any], at: str) -> None:
        expect(self.finish is None, at, "the choice has finished")
        self.text += choice["text"]
        self.finish = choice["finish_reason"]

    def end(self, at: str) -> Summary:
        stop = "error" if self.finish is None else stop_of_finish(self.finish)
        return Summary(self.text, "", (), stop, None)


class _Stream:
    def __init__(self, choice: type[_Choice] | type[_Text]) -> None:
        self._new = choice
        self._envelope: tuple[Any, ...] = ()
        self._choices: dict[int, _Choice | _Text] = {}
        self._with_usage: bool | None = None
        self._usage: dict[str, Any] | None = None

    def take(self, event: Event) -> None:
        at, chunk = event
        envelope = (chunk["id"], chunk["created"], chunk["model"])
        self._envelope = self._envelope or envelope
        expect(envelope == self._envelope, at, f"{envelope} was {self._envelope} before")
        expect(self._usage is None, at, "a chunk after the usage")
        with_usage = "usage" in chunk
        if self._with_usage is None:
            self._with_usage = with_usage
        expect(with_usage == self._with_usage, at, "the key `usage` is in some chunks only")
        if not chunk["choices"]:
            expect(chunk.get("usage"), at, "a chunk without choices and without usage")
            expect(self._choices and self._finished(), at, "usage before every choice has finished")
            self._usage = chunk["usage"]
            return
        expect(chunk.get("usage") is None, at, "usage in a chunk that has choices")
        for choice in chunk["choices"]:
            if choice["index"] not in self._choices:
                self._choices[choice["index"]] = self._new()
            self._choices[choice["index"]].take(choice, f"{at}, choice {choice['index']}")

    def _finished(self) -> bool:
        return all(choice.finish is not None for choice in self._choices.values())

    def end(self, *, error: bool, include_usage: bool | None) -> Summary:
        if error:
            broken_off = not any(choice.finish for choice in self._choices.values())
            expect(broken_off, "stream", "a choice has finished, and then an error came")
        else:
            expect(self._choices, "stream", "no choice in it")
            expect(self._finished(), "stream", "a choice has not finished")
            asked = include_usage if include_usage is not None else self._with_usage
            expect(asked == (self._usage is not None), "stream", f"usage asked: {asked}")
            expect(asked == self._with_usage, "stream", "`usage` in chunks that was not asked for")
        indices = sorted(self._choices)
        expect(indices == list(range(len(indices))), "stream", f"the choices are {indices}")
        folded = [self._choices[n].end(f"choice {n}") for n in indices]
        return of_choices(folded or [Summary("", "", (), "error", None)], self._usage)
