"""The answer to a prompt, independent of the dialect: thinking, text, tool calls, usage."""

from itertools import cycle, islice
from typing import Literal

import msgspec

from edge.untyped_json import decode_any

from .controls import Controls
from .prompt import Prompt, PromptTool, sign
from .sample import sample
from .stats import Used
from .tokens import pieces

Stop = Literal["end", "length", "tools", "stop_string", "refusal"]

_CLOSING = " This answer was made by the simulator."
_PROSE = pieces(
    " It repeats what it was told, counts what it says, and stops where it is asked to stop."
    " A gate lets through as much water as the wheel below can take, and no more."
)
_THOUGHT = " I read the question again, and I look for what it needs."
_WIDE = "Größe, naïve, 日本語, 🎉: "
_ECHO = 2000
_FRAGMENT = 9

_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True):
    """One tool call. fragments: the streamed pieces of its arguments."""

    id: str
    name: str
    fragments: tuple[str, ...]
    custom: bool = False
    namespace: str | None = None

    @property
    def arguments(self) -> str:
        return "".join(self.fragments)


class SimulatedReply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in tokens: each text of `thinking` and `text`, and each fragment, is one."""

    id: str
    model: str
    thinking: tuple[str, ...]
    signature: str
    thought: int
    text: tuple[str, ...]
    calls: tuple[Call, ...]
    stop: Stop
    stop_string: str | None
    prompt_tokens: int
    cached: int
    written: int

    @property
    def output_tokens(self) -> int:
        return self.thought + len(self.text) + sum(len(call.fragments) for call in self.calls)

    def used(self, model: str) -> Used:
        """Its usage, for the requested model."""
        uncached = self.prompt_tokens - self.cached - self.written
        return Used(model, uncached, self.cached, self.written, self.output_tokens)


def reply_to(prompt: Prompt, controls: Controls, identity: str, seen: str = "") -> SimulatedReply:
    """The answer to `prompt`. identity: hexadecimal, 32 digits or more, for the ids.

    seen: a sentence before the text.
    """
    room = prompt.limit if prompt.limit is not None else 1 << 30
    thinking = _thinking(prompt, controls)
    thought = len(thinking[:room])
    calls = _calls(prompt, controls, identity)
    text = _text(prompt, controls, bool(calls))
    if seen and text:
        text = pieces(f"{seen}\n\n") + text
    text, stop_string = _stopped(text, prompt.stops)
    stop: Stop = "end"
    if controls.refusal:
        stop = "refusal"
        calls = []
    elif stop_string is not None:
        stop = "stop_string"
        calls = []
    elif calls:
        stop = "tools"
    wanted = len(thinking) + len(text) + sum(len(call.fragments) for call in calls)
    if wanted > room:
        stop, stop_string = "length", None
        text = text[: room - thought]
        calls = _cut_calls(calls, room - thought - len(text))
    shown = tuple(thinking[:thought]) if prompt.shows else ()
    cached, written = _cache(prompt, controls)
    return SimulatedReply(
        id=identity,
        model=f"{prompt.model}-2026-01-01" if controls.dated else prompt.model,
        thinking=shown,
        signature=sign("".join(shown)) if thinking else "",
        thought=thought,
        text=tuple(text),
        calls=tuple(calls),
        stop=stop,
        stop_string=stop_string,
        prompt_tokens=prompt.tokens,
        cached=cached,
        written=written,
    )


def _thinking(prompt: Prompt, controls: Controls) -> list[str]:
    sentences = controls.thinking
    if sentences is None:
        sentences = 2 if prompt.thinks else 0
    return pieces((_THOUGHT * sentences).lstrip())


def _text(prompt: Prompt, controls: Controls, calling: bool) -> list[str]:
    if controls.refusal:
        return pieces("I cannot help with that.")
    if calling and controls.tokens is None:
        return []
    if controls.canary:
        word = max(prompt.text.split(), key=len, default="canary")
        return [word + " "] * (16 if controls.tokens is None else controls.tokens)
    if prompt.schema is not None and not calling:
        return pieces(_encode(sample(prompt.schema)).decode())
    results = prompt.since[-1:] if _playing(prompt, controls) else prompt.results
    if results:
        text = "The tool returned: " + " and ".join(results)[:_ECHO]
    else:
        text = "You said: " + prompt.text[:_ECHO]
    if "split-utf8" in controls.fault:
        text = _WIDE + text
    if controls.tokens is None:
        return pieces(text + "\n\n" + _CLOSING.lstrip())
    start = pieces(text)
    missing = max(0, controls.tokens - len(start))
    return start[: controls.tokens] + list(islice(cycle(_PROSE), missing))


def _stopped(text: list[str], stops: tuple[str, ...]) -> tuple[list[str], str | None]:
    """The text up to the first stop string, and that string."""
    whole = "".join(text)
    found = [(at, stop) for stop in stops if (at := whole.find(stop)) >= 0]
    if not found:
        return text, None
    at, stop = min(found)
    return pieces(whole[:at]), stop


def _calls(prompt: Prompt, controls: Controls, identity: str) -> list[Call]:
    if not prompt.tools or prompt.choice == "none":
        return []
    forced = prompt.choice in ("any", "only")
    if _playing(prompt, controls):
        if call := _scripted(prompt, controls, identity):
            return [call]
        if not forced:
            return []
    if prompt.results and not forced:
        return []
    wanted = controls.tools if controls.tools is not None else 0
    if forced:
        wanted = max(1, wanted)
    if not prompt.parallel:
        wanted = min(1, wanted)
    return [
        _call(prompt, tool, identity, n)
        for n, tool in zip(range(wanted), cycle(prompt.tools), strict=False)
    ]


def _playing(prompt: Prompt, controls: Controls) -> bool:
    """Whether a tool script decides this turn."""
    return bool(controls.call and prompt.tools and not prompt.over)


def _scripted(prompt: Prompt, controls: Controls, identity: str) -> Call | None:
    """The next call of the script, if the request offers its tool."""
    due = len(prompt.since)
    if due >= len(controls.call):
        return None
    name, text = controls.call[due]
    tool = next((tool for tool in prompt.tools if tool.name == name), None)
    return _call_of(prompt, tool, _fitted(tool, text), identity, 0) if tool else None


def _fitted(tool: PromptTool, text: str) -> str:
    """Arguments of a scripted call; a text becomes the only argument of an object."""
    properties = tool.schema.get("properties") if isinstance(tool.schema, dict) else None
    if tool.custom or not isinstance(properties, dict) or len(properties) != 1:
        return text
    try:
        if isinstance(decode_any(text), dict):
            return text
    except msgspec.DecodeError:
        pass  # text it is
    return _encode({next(iter(properties)): text}).decode()


def _call(prompt: Prompt, tool: PromptTool, identity: str, number: int) -> Call:
    if tool.custom:
        return _call_of(prompt, tool, "sample", identity, number)
    value = sample(tool.schema)
    arguments = _encode(value if isinstance(value, dict) else {}).decode()
    return _call_of(prompt, tool, arguments, identity, number)


def _call_of(prompt: Prompt, tool: PromptTool, text: str, identity: str, number: int) -> Call:
    prefix = "toolu_" if prompt.dialect == "anthropic" else "call_"
    fragments = tuple(text[at : at + _FRAGMENT] for at in range(0, len(text), _FRAGMENT))
    return Call(
        id=f"{prefix}{identity[:20]}{number:02d}",
        name=tool.name,
        fragments=fragments,
        custom=tool.custom,
        namespace=tool.namespace,
    )


def _cut_calls(calls: list[Call], room: int) -> list[Call]:
    kept = []
    for call in calls:
        if room <= 0:
            break
        kept.append(msgspec.structs.replace(call, fragments=call.fragments[:room]))
        room -= len(call.fragments)
    return kept


def _cache(prompt: Prompt, controls: Controls) -> tuple[int, int]:
    cached = prompt.cached if controls.cached is None else controls.cached
    written = prompt.written if controls.written is None else controls.written
    cached = min(cached, prompt.tokens)
    return cached, min(written, prompt.tokens - cached)
