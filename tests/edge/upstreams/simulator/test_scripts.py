"""Tool scripts: the calls that are due, whatever clients put around the directive."""

from collections.abc import Callable
from typing import Any

import pytest

from edge.upstreams.simulator import Controls, call_word
from tests.edge.upstreams.simulated import CHAT, MESSAGES, RESPONSES, ask_json, post, responses
from tests.schemas import Summary, summary

NAMES = ("Bash", "Read")
SHELL = {"type": "object", "properties": {"command": {"type": "string"}, "n": {"type": "integer"}}}
PATCH = {"type": "custom", "name": "apply_patch"}
FIRST = {"command": "ls -la ]] 'ä' \"%7B\" [[sim tokens=1"}
SCRIPT = f"Please [[sim {call_word('Bash', FIRST)} {call_word('Read', {'command': 'b'})}]] do"
REMINDER = "<system-reminder>The date is known.</system-reminder>"


class Client:
    """A coding client of one dialect: it runs the calls and goes on, with reminders between."""

    def __init__(self, prompt: str, *, tools: tuple[str, ...] = NAMES) -> None:
        self.turns: list[Any] = []
        self.tools = tools
        self.user(prompt)

    def user(self, text: str) -> None:
        self.turns.append({"role": "user", "content": text})

    def ask(self) -> Summary:
        raise NotImplementedError


class ChatClient(Client):
    def ask(self) -> Summary:
        tools = [{"type": "function", "function": {"name": n, "parameters": SHELL}} for n in NAMES]
        offered = {"tools": tools} if self.tools else {}
        body = {"model": "m", "messages": self.turns, **offered}
        answer = ask_json(post(CHAT, body))
        message = answer["choices"][0]["message"]
        self.turns.append(message)
        for n, call in enumerate(message.get("tool_calls") or ()):
            done = {"role": "tool", "tool_call_id": call["id"], "content": f"result {n}"}
            self.turns += [done, {"role": "user", "content": REMINDER}]
        return summary("chat", answer)


class MessagesClient(Client):
    def ask(self) -> Summary:
        tools = [{"name": name, "input_schema": SHELL} for name in NAMES]
        offered = {"tools": tools} if self.tools else {}
        body = {"model": "m", "max_tokens": 4096, "messages": self.turns, **offered}
        answer = ask_json(post(MESSAGES, body))
        if answer["content"]:
            self.turns.append({"role": "assistant", "content": answer["content"]})
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "result 0"}
            for block in answer["content"]
            if block["type"] == "tool_use"
        ]
        if results:
            results.append({"type": "text", "text": REMINDER})
            self.turns.append({"role": "user", "content": results})
        return summary("messages", answer)


class ResponsesClient(Client):
    def ask(self) -> Summary:
        tools = [{"type": "function", "name": n, "parameters": SHELL} for n in NAMES]
        offered = {"tools": tools} if self.tools else {}
        answer = ask_json(post(RESPONSES, {"model": "m", "input": self.turns, **offered}))
        self.turns += answer["output"]
        for item in answer["output"]:
            if item["type"] == "function_call":
                done = {"type": "function_call_output", "call_id": item["call_id"]}
                self.turns += [done | {"output": "result 0"}]
                self.user(REMINDER)
        return summary("responses", answer)


CLIENTS = pytest.mark.parametrize("client", [ChatClient, MessagesClient, ResponsesClient])
NewClient = Callable[..., Client]


def said(answer: Summary) -> list[tuple[str, Any]]:
    return [(name, arguments) for _, name, arguments in answer.calls]


@CLIENTS
def test_a_script_is_played_step_by_step(client: NewClient) -> None:
    running = client(SCRIPT)
    running.user("<environment>nothing of importance</environment>")
    first, second, last = running.ask(), running.ask(), running.ask()
    assert [name for name, _ in said(first)] == ["Bash"]
    assert "ls -la ]] 'ä'" in said(first)[0][1]
    assert [name for name, _ in said(second)] == ["Read"]
    assert first.calls[0][0] != second.calls[0][0]
    assert not last.calls
    assert "The tool returned: result 0" in last.text


@CLIENTS
def test_a_script_is_over_when_it_was_answered(client: NewClient) -> None:
    running = client(SCRIPT)
    for _ in range(3):
        running.ask()
    running.user("Thank you")
    answer = running.ask()
    assert (answer.calls, answer.text.startswith("You said: Thank you")) == ((), True)
    running.user(f"Once more [[sim {call_word('Read', {'command': 'c'})} thinking=1]]")
    assert [name for name, _ in said(running.ask())] == ["Read"]


@CLIENTS
def test_a_side_request_without_tools_is_answered_plainly(client: NewClient) -> None:
    answer = client(f"Write a title: {SCRIPT}", tools=()).ask()
    assert (answer.calls, answer.stop) == ((), "end")
    assert answer.text.startswith("You said: Write a title")


@CLIENTS
def test_a_tool_that_is_not_offered_is_not_called(client: NewClient) -> None:
    answer = client(f"Hi [[sim {call_word('Gone', {})}]]").ask()
    assert not answer.calls


def test_other_words_of_the_directive_hold_for_all_turns() -> None:
    running = ChatClient(f"Hi [[sim {call_word('Bash', {'command': 'x'})} thinking=1 tokens=2]]")
    first, last = running.ask(), running.ask()
    assert (first.text, bool(first.thinking)) == ("You said", True)
    assert (last.text, bool(last.thinking)) == ("The tool", True)


def test_a_custom_tool_gets_its_raw_text() -> None:
    patch = "*** Begin Patch\n*** Add File: a.txt\n+häh {x}\n*** End Patch\n"
    word = call_word("apply_patch", patch)
    (item,) = ask_json(post(RESPONSES, responses(f"Go [[sim {word}]]", tools=[PATCH])))["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", patch)


def test_text_for_a_tool_of_one_argument_is_that_argument() -> None:
    schema = {"type": "object", "properties": {"input": {"type": "string"}}}
    tool = {"type": "function", "name": "apply_patch", "parameters": schema}
    for text, wanted in (("a\nb", '{"input":"a\\nb"}'), ('{"input":1}', '{"input":1}')):
        word = call_word("apply_patch", text)
        body = responses(f"Go [[sim {word}]]", tools=[tool])
        assert ask_json(post(RESPONSES, body))["output"][0]["arguments"] == wanted


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    tool = {"type": "function", "name": "Bash", "parameters": SHELL}
    body = responses('Go [[sim call=Bash:{"command":]]', tools=[tool])
    assert ask_json(post(RESPONSES, body))["output"][0]["arguments"] == '{"command":'


def test_a_choice_that_forbids_calls_wins_over_the_script() -> None:
    tool = {"type": "function", "name": "Bash", "parameters": SHELL}
    body = responses(SCRIPT, tools=[tool], tool_choice="none")
    assert [item["type"] for item in ask_json(post(RESPONSES, body))["output"]] == ["message"]


def test_a_result_that_quotes_a_script_does_not_start_it() -> None:
    running = MessagesClient(SCRIPT)
    running.ask()
    running.turns[-1]["content"][0]["content"] = f"[[sim {call_word('Bash', {})}]]"
    assert [name for name, _ in said(running.ask())] == ["Read"]


def test_the_words_are_read_as_they_were_written() -> None:
    controls = Controls().with_words(f"{call_word('a b', FIRST)} call=c:")
    (name, text), second = controls.call
    assert (name, second) == ("a b", ("c", ""))
    assert text.startswith('{"command":"ls -la ]] ')
    with pytest.raises(ValueError, match="NAME:ARGS is expected"):
        Controls().with_words("call=Bash")
