"""Which conversation a request belongs to, and what is remembered of it.

Bodies are shaped as the clients of their names send them, recorded from the programs themselves.
"""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects import signatures
from edge.dialects.conversation import Origin, Signature
from edge.routing import conversation_key
from edge.routing.affinity import ConversationKey, StoredAffinity
from middlewares.exchange import Exchange, Principal, Target
from middlewares.stores.affinity.base import AffinityRecord, MemoryAffinityStore
from tests.edge.exchanges import exchange_at

A, B = Target("up", "a"), Target("down", "b")
CACHED = {"cache_control": {"type": "ephemeral"}}
PACKED = signatures.pack(Signature(origin=Origin("responses", "f00"), data="gAAAA", id="rs_1"))
EMPTY = signatures.pack(Signature(origin=Origin("openai"), data=""))


def exchange(endpoint: str, body: Any, *, who: str = "k", model: str = "m") -> Exchange:
    raw = msgspec.json.encode(body)
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return exchange_at(endpoint, model=model, fields=fields, principal=Principal(who))


async def found(endpoint: str, body: Any, **who: str) -> ConversationKey | None:
    return await StoredAffinity(MemoryAffinityStore()).find(exchange(endpoint, body, **who))


async def of(endpoint: str, body: Any, **who: str) -> ConversationKey:
    conversation = await found(endpoint, body, **who)
    assert conversation is not None
    return conversation


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


# Real clients -------------------------------------------------------------------------------------


def claude_code(prompt: str, session: str, *, turns: int, date: str = "today") -> dict[str, Any]:
    """What it sends for the turn: the mark of the cache wanders, a list becomes a string, the first
    line of the system prompt is rewritten, and reminders come and go."""
    surroundings = f"# Environment\n{date}"
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [text(f"<system-reminder>\n{date}"), text(prompt)]},
        {"role": "system", "content": surroundings if turns else [text(surroundings, **CACHED)]},
    ]
    for n in range(turns):
        thought = {"type": "thinking", "thinking": "hm", "signature": f"sig{n}"}
        call = {"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"command": "ls"}}
        result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": "a"}
        messages += [
            {"role": "assistant", "content": [thought, call]},
            {"role": "user", "content": [result]},
            {"role": "system", "content": [text(f"{9 - n} tokens left", **CACHED)]},
        ]
    who = {"device_id": "d", "account_uuid": "", "session_id": session}
    return {
        "model": "claude-opus-5",
        "system": [text(f"x-anthropic-billing-header: cch={turns};"), text("You are an agent.")],
        "messages": messages,
        "metadata": {"user_id": json.dumps(who)},
        "thinking": {"type": "adaptive"},
    }


def codex(prompt: str, session: str, *, turns: int, date: str = "today") -> dict[str, Any]:
    def message(role: str, *said: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": each} for each in said]
        return {"type": "message", "role": role, "content": content}

    items = [
        message("developer", "<skills_instructions>", "<permissions instructions>"),
        message("user", f"<environment_context>{date}</environment_context>"),
        message("user", prompt),
    ]
    for n in range(turns):
        items += [
            {"type": "reasoning", "id": f"rs_{n}", "summary": [], "encrypted_content": "gAAA"},
            {"type": "function_call", "call_id": f"c{n}", "name": "exec", "arguments": "{}"},
            {"type": "function_call_output", "call_id": f"c{n}", "output": "a"},
        ]
    return {"model": "m", "input": items, "prompt_cache_key": session, "store": False}


def opencode(prompt: str, session: str, *, turns: int, date: str = "today") -> dict[str, Any]:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"You are opencode. {date} {turns}"},
        {"role": "user", "content": prompt},
    ]
    for n in range(turns):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{n}", "content": "a"},
        ]
    return {"model": "m", "messages": messages, "stream": True}


CLIENTS = [
    ("messages", claude_code, True, True),
    ("responses", codex, True, True),
    ("chat.completions", opencode, False, False),
]
"""Endpoint, body, whether it tells its session, whether its turns are sealed."""


@pytest.mark.parametrize(("endpoint", "client", "tells", "signs"), CLIENTS)
async def test_the_turns_of_a_client_are_one_conversation(
    endpoint: str, client: Any, tells: bool, signs: bool
) -> None:
    turns = [await of(endpoint, client("Fix it.", "s1", turns=n)) for n in range(4)]
    assert len({turn.key for turn in turns}) == 1
    assert [turn.bound for turn in turns] == [False, signs, signs, signs]
    counts = [turn.messages for turn in turns]
    assert counts == sorted(set(counts))
    other = await of(endpoint, client("Break it.", "s1", turns=2))
    assert other.key != turns[0].key
    again = await of(endpoint, client("Fix it.", "s2", turns=2))
    assert (again.key != turns[0].key) is tells


async def test_claude_codes_reminders_do_not_tell_conversations_apart() -> None:
    before = await of("messages", claude_code("Fix it.", "s", turns=0, date="Monday"))
    after = await of("messages", claude_code("Fix it.", "s", turns=1, date="Tuesday"))
    assert before.key == after.key
    only = {"messages": [{"role": "user", "content": "<system-reminder>one"}]}
    other = {"messages": [{"role": "user", "content": "<system-reminder>two"}]}
    assert (await of("messages", only)).key != (await of("messages", other)).key


# Keys ---------------------------------------------------------------------------------------------

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


async def test_a_conversation_is_its_owners_and_its_models() -> None:
    keys = {
        (await of("messages", HELLO)).key,
        (await of("messages", HELLO, who="other")).key,
        (await of("messages", HELLO, model="other")).key,
        (await of("messages", {**HELLO, "metadata": {"user_id": "u"}})).key,
        (await of("messages", {**HELLO, "prompt_cache_key": "u"})).key,
        (await of("messages", {**HELLO, "user": "u"})).key,
        (await of("messages", {**HELLO, "safety_identifier": "u"})).key,
    }
    assert len(keys) == 7
    ours = exchange("messages", HELLO)
    ours.principal, ours.client = None, "192.0.2.7"
    theirs = exchange("messages", HELLO)
    theirs.principal, theirs.client = None, "192.0.2.8"
    conversations = StoredAffinity(MemoryAffinityStore())
    one, two = await conversations.find(ours), await conversations.find(theirs)
    assert one is not None and two is not None and one.key != two.key


@pytest.mark.parametrize(
    "metadata", [None, 3, "user_id", {"user_id": 3}, {"request": "r1"}, {"user_id": None}]
)
async def test_other_metadata_is_not_looked_at(metadata: Any) -> None:
    assert (await of("messages", {**HELLO, "metadata": metadata})).messages == 1


async def test_an_input_is_the_same_as_text_and_as_items() -> None:
    """What a stored response is continued with comes as items (`edge.api.responses.expand`)."""
    message = {"role": "user", "content": "Hello"}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text"}]}
    parts = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hello"}],
    }
    bodies = ["Hello", [message], [parts, answer, {"role": "user", "content": "And?"}]]
    keys = {(await of("responses", {"input": body})).key for body in bodies}
    assert len(keys) == 1
    assert {(await of("responses.compact", {"input": bodies[2]})).key} == keys
    borrowed = await of("chat.completions", {"input": bodies[1]})  # Cursor
    assert {borrowed.key} == keys


async def test_pictures_tell_conversations_apart() -> None:
    def shown(data: str, **more: Any) -> dict[str, Any]:
        source = {"type": "base64", "media_type": "image/png", "data": data}
        block = {"type": "image", "source": source, **more}
        return {"messages": [{"role": "user", "content": [block]}]}

    one, marked = await of("messages", shown("AAAA")), await of("messages", shown("AAAA", **CACHED))
    assert one.key == marked.key
    assert one.key != (await of("messages", shown("BBBB"))).key


async def test_a_greeting_of_the_assistants_may_come_first() -> None:
    greeting = {"role": "assistant", "content": "How can I help?"}
    first = {"messages": [greeting, *HELLO["messages"]]}
    later = {"messages": [*first["messages"], greeting, {"role": "user", "content": "More"}]}
    assert (await of("messages", first)).key == (await of("messages", later)).key


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("embeddings", {"input": "Hello"}),
        ("completions", {"prompt": "Hello"}),
        ("messages", {"input": "Hello"}),
        ("responses", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("messages", {}),
        ("messages", {"messages": None}),
        ("messages", {"messages": []}),
        ("messages", {"messages": [{"role": "system", "content": "Be kind."}]}),
        ("messages", {"messages": [{"role": "assistant", "content": "Hello"}]}),
    ],
)
async def test_without_a_user_there_is_no_conversation(endpoint: str, body: Any) -> None:
    assert await found(endpoint, body) is None


deep = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    "raw",
    [
        b'[{"role": 3}]',
        b'["text"]',
        b"[1]",
        b"7",
        b'[{"role":"user","content":[{"type":"text","text":7}]}]',
        b'[{"role":"user","content":[7]}]',
        b'[{"role":"user","content":%s}]' % deep.encode(),
        b'[{"role":"user","content":[{"type":"image","source":%s}]}]' % deep.encode(),
        b'[{"role":"user","content":"x"},{"role":"assistant","content":%s}]' % deep.encode(),
        b'[{"role":"user","content":"x"},{"role":"assistant","content":[%s]}]' % deep.encode(),
        b'"\xff"',
    ],
)
async def test_what_cannot_be_read_has_no_conversation_or_one_without_ties(raw: bytes) -> None:
    sent = exchange_at("messages", fields={"messages": msgspec.Raw(raw)})
    conversation = await StoredAffinity(MemoryAffinityStore()).find(sent)
    assert conversation is None or not conversation.bound


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        ([USER] * 5000, 256),
        ([{**USER, "content": ["x"] * 5000}], 256),
        ([{**USER, "content": [{}] * 5000}, USER], 1),
        ([{**USER, "content": [{str(n): n for n in range(5000)}, "x"]}], 1),
        ([{"role": "system"}] * 5000 + [USER], None),
        ([USER] + [{"role": "system"}] * 5000, 1),
        ([USER] + [{}] * 50_000, 1),
    ],
)
def test_there_is_an_end_to_looking(messages: list[Any], texts: int | None) -> None:
    """Each of these costs seconds where bodies of 32 MiB are taken, and everybody waits."""
    read = conversation_key.read(
        {"messages": msgspec.Raw(msgspec.json.encode(messages))}, "messages"
    )
    assert (None if read is None else len(read.beginning)) == texts


MEMBERS = [
    "role",
    "type",
    "content",
    "text",
    "signature",
    "data",
    "encrypted_content",
    "thinking_blocks",
    "reasoning_details",
    "metadata",
    "user_id",
    "user",
]
WORDS = [
    "user",
    "assistant",
    "tool",
    "system",
    "reasoning",
    "compaction",
    "tool_result",
    "thinking",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(value=json_values, metadata=json_values)
async def test_nothing_that_is_json_fails(value: Any, metadata: Any) -> None:
    body = {"messages": value, "input": value, "metadata": metadata, "user": metadata}
    for endpoint in ("messages", "chat.completions", "responses"):
        conversation = await found(endpoint, body)
        assert conversation is None or conversation.messages >= 1


words = st.text(min_size=1, max_size=20)


@given(first=words, rest=st.lists(words, max_size=6), marks=st.lists(st.booleans(), max_size=14))
async def test_a_conversation_that_goes_on_stays_the_same(
    first: str, rest: list[str], marks: list[bool]
) -> None:
    """Whatever is said in it, wherever marks of the cache are put, in whichever form."""

    def written(said: str, at: int) -> Any:
        marked = at < len(marks) and marks[at]
        return [text(said, **CACHED)] if marked else said

    texts = [first, *rest]
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": roles[n], "content": written(said, n)} for n, said in enumerate(texts)]
    conversation = await of("messages", {"messages": messages})
    beginning = await of("messages", {"messages": [{"role": "user", "content": first}]})
    assert conversation.key == beginning.key
    assert conversation.messages == len(messages)


# Open turns ---------------------------------------------------------------------------------------

SIGNED = {"type": "thinking", "thinking": "", "signature": "c2ln"}
CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
USER = {"role": "user", "content": "Go on"}


def made(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks), **more}


REDACTED = {"type": "redacted_thinking", "data": "c2ln"}
DETAIL = {"type": "reasoning.encrypted", "data": PACKED}
TOOL = {"role": "tool", "tool_call_id": "c", "content": "x"}
REASONED = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
CALLED = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RETURNED = {"type": "function_call_output", "call_id": "c", "output": "x"}
COMPACTED = {"type": "compaction", "encrypted_content": "gAAA"}


@pytest.mark.parametrize(
    ("endpoint", "turns", "bound"),
    [
        ("messages", [made(SIGNED, CALL), RESULT], True),
        ("messages", [made(REDACTED, CALL), RESULT], True),
        ("messages", [made({**SIGNED, "signature": PACKED}, CALL), RESULT], True),
        ("messages", [made(SIGNED, CALL), RESULT, made(CALL), RESULT], True),
        ("messages", [made(SIGNED, CALL), RESULT, {"role": "system", "content": "Hurry"}], True),
        ("messages", [made(SIGNED, CALL)], True),  # a turn that was paused, to be gone on with
        ("messages", [made(SIGNED, CALL), RESULT, made(text("Ok")), USER], False),
        ("messages", [made(SIGNED), USER, made(CALL), RESULT], False),
        ("messages", [made(CALL), RESULT], False),
        ("messages", [made({**SIGNED, "signature": ""}, CALL), RESULT], False),
        ("messages", [made({**SIGNED, "signature": EMPTY}, CALL), RESULT], False),
        ("messages", [made(text('"signature": "x"'), CALL), RESULT], False),
        ("messages", [USER], False),
        ("chat.completions", [made(reasoning_details=[DETAIL]), TOOL], True),
        ("chat.completions", [made(thinking_blocks=[SIGNED]), TOOL], True),
        ("chat.completions", [made(SIGNED, CALL), RESULT], True),  # Cursor
        ("chat.completions", [made(reasoning_details=[DETAIL]), TOOL, USER], False),
        ("chat.completions", [made(reasoning_content="hm"), TOOL], False),
        ("chat.completions", [made(reasoning_details=[{"text": "hm"}]), TOOL], False),
        (
            "chat.completions",
            [made(tool_calls=[{"extra_content": {"google": {"thought_signature": "x"}}}]), TOOL],
            True,
        ),
        ("responses", [REASONED, CALLED, RETURNED], True),
        ("responses", [{**REASONED, "encrypted_content": PACKED}, CALLED, RETURNED], True),
        ("responses", [REASONED, CALLED, RETURNED, {"role": "user", "content": "x"}], False),
        ("responses", [{**REASONED, "encrypted_content": None}, CALLED, RETURNED], False),
        ("responses", [CALLED, {**RETURNED, "type": "custom_tool_call_output"}], False),
        ("responses", [REASONED, CALLED, {"type": "mcp_approval_response"}], True),
        ("responses", [COMPACTED, {"role": "user", "content": "x"}], True),
    ],
)
async def test_a_turn_that_only_its_maker_can_go_on_with(
    endpoint: str, turns: list[Any], bound: bool
) -> None:
    where = "input" if endpoint == "responses" else "messages"
    body = {where: [{"role": "user", "content": "Hello"}, *turns]}
    assert (await of(endpoint, body)).bound is bound


# What is kept -------------------------------------------------------------------------------------


async def test_whatever_came_before_another_maker_is_foreign_to_it() -> None:
    store = MemoryAffinityStore()
    conversations = StoredAffinity(store)
    history = [USER]

    async def turn(target: Target, maker: str) -> ConversationKey:
        asked = await conversations.find(exchange("messages", {"messages": history}))
        assert asked is not None
        conversations.keep(asked, target, maker)
        history.extend([made(text("Ok")), USER])
        return asked

    first = await turn(A, "maker-a")
    assert first.record is None
    assert first.unreadable_messages("maker-a") == first.unreadable_messages("maker-b") == 0
    second = await turn(A, "maker-a")
    assert second.record == AffinityRecord("up/a", "maker-a", 0)
    assert (second.unreadable_messages("maker-a"), second.unreadable_messages("maker-b")) == (0, 3)
    third = await turn(B, "maker-b")
    assert third.record == AffinityRecord("up/a", "maker-a", 0)
    assert third.unreadable_messages("maker-b") == 5
    fourth = await turn(Target("elsewhere", "b"), "maker-b")
    assert fourth.record == AffinityRecord("down/b", "maker-b", 5)
    assert (fourth.unreadable_messages("maker-b"), fourth.unreadable_messages("maker-a")) == (5, 7)
    fifth = await turn(A, "maker-a")
    assert fifth.record == AffinityRecord("elsewhere/b", "maker-b", 5)
    sixth = await turn(A, "maker-a")
    assert sixth.record == AffinityRecord("up/a", "maker-a", 9)
    assert len(store) == 1


async def test_instructions_that_a_client_replaces_do_not_shift_what_is_foreign() -> None:
    """Claude Code says behind each result how many tokens are left, once."""
    conversations = StoredAffinity(MemoryAffinityStore())
    left = {"role": "system", "content": [text("9 tokens left", **CACHED)]}
    turn = [USER, {"role": "system", "content": "# Environment"}, made(SIGNED, CALL), RESULT]
    answered: list[Any] = [made({**SIGNED, "signature": "b"}, CALL), RESULT]
    for messages, target, maker in (([*turn[:2], left], A, "a"), ([*turn, left], B, "b")):
        asked = await conversations.find(exchange("messages", {"messages": messages}))
        assert asked is not None
        conversations.keep(asked, target, maker)
    for behind in ([*answered, left], [left, *answered, left]):
        asked = await conversations.find(exchange("messages", {"messages": [*turn, *behind]}))
        assert asked is not None
        assert asked.bound
        assert asked.unreadable_messages("b") == len(turn)


async def test_a_history_that_was_made_shorter_is_not_believed_more() -> None:
    conversations = StoredAffinity(MemoryAffinityStore())
    long = [USER, made(SIGNED), USER, made(SIGNED), USER]
    for messages, target, maker in ((long[:3], A, "a"), (long, B, "b"), (long[:3], B, "b")):
        asked = await conversations.find(exchange("messages", {"messages": messages}))
        assert asked is not None
        conversations.keep(asked, target, maker)
    asked = await conversations.find(exchange("messages", {"messages": [*long, made(), USER]}))
    assert asked is not None
    assert asked.unreadable_messages("b") == 5
