"""What the vendors always send, although the types of their SDKs let it be missing."""

from .rules import (
    COUNT,
    INSTANT,
    NAME,
    NULL,
    OBJECT,
    STRING,
    Rule,
    among,
    by,
    nullable,
    record,
    several,
    starting,
)

_COMPLETION_USAGE = record(
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_tokens_details": record({"cached_tokens": COUNT}),
        "completion_tokens_details": record({"reasoning_tokens": COUNT}),
    }
)
TEXT_USAGE = record({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT})
_TOOL_CALL = record(
    {"id": NAME, "type": among("function", "custom")},
    {"function": record({"name": NAME, "arguments": STRING})},
)
_CHAT_MESSAGE = record(
    {"role": among("assistant"), "content": nullable(STRING), "refusal": nullable(STRING)},
    {"tool_calls": several(_TOOL_CALL, least=1), "reasoning_content": STRING},
)
CHAT = record(
    {
        "id": starting("chatcmpl-"),
        "object": among("chat.completion"),
        "created": COUNT,
        "model": NAME,
        "choices": several(
            record(
                {
                    "index": COUNT,
                    "message": _CHAT_MESSAGE,
                    "logprobs": nullable(OBJECT),
                    "finish_reason": NAME,
                }
            ),
            least=1,
        ),
        "usage": _COMPLETION_USAGE,
    },
    {"service_tier": NAME, "system_fingerprint": nullable(NAME)},
)
CHUNK = record(
    {
        "id": starting("chatcmpl-"),
        "object": among("chat.completion.chunk"),
        "created": COUNT,
        "model": NAME,
        "choices": several(
            record(
                {
                    "index": COUNT,
                    "delta": record(
                        {},
                        {
                            "tool_calls": several(record({"index": COUNT}), least=1),
                            "reasoning_content": STRING,
                        },
                    ),
                    "finish_reason": nullable(NAME),
                }
            )
        ),
    },
    {
        "usage": nullable(_COMPLETION_USAGE),
        "service_tier": NAME,
        "system_fingerprint": nullable(NAME),
    },
)


def text_completion(finish: Rule, usage: Rule | None, least: int) -> Rule:
    choice = record({"index": COUNT, "text": STRING, "logprobs": NULL, "finish_reason": finish})
    return record(
        {
            "id": starting("cmpl-"),
            "object": among("text_completion"),
            "created": COUNT,
            "model": NAME,
            "choices": several(choice, least=least),
            **({"usage": usage} if usage else {}),
        },
        {"usage": usage or nullable(TEXT_USAGE)},
    )


_CLAUDE_USAGE = record(
    {
        "input_tokens": COUNT,
        "cache_creation_input_tokens": COUNT,
        "cache_read_input_tokens": COUNT,
        "output_tokens": COUNT,
    }
)
_TOOL_USE = {"id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"}, "name": NAME}
BLOCK = by("type", {"text": record({"text": NAME}), "tool_use": record(_TOOL_USE)})
_EMPTY_OBJECT: Rule = {"type": "object", "maxProperties": 0}
_OPENED = by(
    "type",
    {
        "text": record({"text": among("")}),
        "thinking": record({"thinking": among(""), "signature": among("")}),
        "tool_use": record({**_TOOL_USE, "input": _EMPTY_OBJECT}),
        "server_tool_use": record({**_TOOL_USE, "input": _EMPTY_OBJECT}),
    },
)


def message(content: Rule, stop: Rule) -> Rule:
    return record(
        {
            "id": starting("msg_"),
            "type": among("message"),
            "role": among("assistant"),
            "model": NAME,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": nullable(STRING),
            "usage": _CLAUDE_USAGE,
        }
    )


CLAUDE_ERROR = record(
    {
        "type": among("error"),
        "error": record(
            {
                "type": among(
                    "invalid_request_error",
                    "authentication_error",
                    "billing_error",
                    "permission_error",
                    "not_found_error",
                    "conflict_error",
                    "request_too_large",
                    "rate_limit_error",
                    "api_error",
                    "timeout_error",
                    "overloaded_error",
                ),
                "message": NAME,
            }
        ),
        "request_id": NAME,
    }
)
CLAUDE_EVENT = by(
    "type",
    {
        "message_start": record({"message": message(several(OBJECT, most=0), NULL)}),
        "content_block_start": record({"index": COUNT, "content_block": _OPENED}),
        "content_block_delta": record({"index": COUNT}),
        "content_block_stop": record({"index": COUNT}),
        "message_delta": record(
            {
                "delta": record({"stop_reason": nullable(NAME), "stop_sequence": nullable(STRING)}),
                "usage": record({"output_tokens": COUNT}),
            }
        ),
        "error": CLAUDE_ERROR,
    },
)
CLAUDE_MODEL = record(
    {"id": NAME, "type": among("model"), "display_name": NAME, "created_at": INSTANT}
)
MODEL = record({"id": NAME, "object": among("model"), "created": COUNT, "owned_by": NAME})
OPENAI_ERROR = record(
    {
        "error": record(
            {
                "message": NAME,
                "type": NAME,
                "param": nullable(STRING),
                "code": nullable(STRING),
            }
        )
    }
)
