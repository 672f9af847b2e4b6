"""What Open Responses demands of objects and events, beyond the types of the OpenAI SDK.

Its compliance suite parses every answer and every event with these keys required, these null and
those never null. An item or an event that Open Responses does not know has no rule here.
"""

from .rules import (
    ANYTHING,
    BOOLEAN,
    COUNT,
    NAME,
    NULL,
    NUMBER,
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

_STATE = among("in_progress", "completed", "incomplete")
_IN_OUTPUT = {"item_id": NAME, "output_index": COUNT}
_IN_CONTENT = {**_IN_OUTPUT, "content_index": COUNT}
_IN_SUMMARY = {**_IN_OUTPUT, "summary_index": COUNT}

ANNOTATION = by(
    "type",
    {
        "url_citation": record(
            {"url": STRING, "title": STRING, "start_index": COUNT, "end_index": COUNT}
        )
    },
)
PART = by(
    "type",
    {
        "output_text": record(
            {
                "text": STRING,
                "annotations": several(ANNOTATION),
                "logprobs": several(OBJECT),
            }
        ),
        "refusal": record({"refusal": STRING}),
        "input_text": record({"text": STRING}),
        "input_image": record(
            {"image_url": nullable(STRING), "detail": among("low", "high", "auto")}
        ),
        "summary_text": record({"text": STRING}),
        "reasoning_text": record({"text": STRING}),
    },
)
_REASONING = record(
    {"id": starting("rs_"), "summary": several(PART)},
    {"content": several(PART), "encrypted_content": STRING, "status": _STATE},
)
ITEM = by(
    "type",
    {
        "message": record(
            {
                "id": starting("msg_"),
                "status": _STATE,
                "role": among("user", "assistant", "system", "developer"),
                "content": several(PART),
            },
            {"phase": among("commentary", "final_answer")},
        ),
        "function_call": record(
            {
                "id": starting("fc_"),
                "call_id": {**NAME, "maxLength": 64},
                "name": NAME,
                "arguments": STRING,
                "status": _STATE,
            }
        ),
        "function_call_output": record(
            {
                "id": NAME,
                "call_id": NAME,
                "output": {"type": ["string", "array"]},
                "status": _STATE,
            }
        ),
        "custom_tool_call": record(
            {"id": starting("ctc_"), "call_id": {**NAME, "maxLength": 64}, "input": STRING}
        ),
        "reasoning": _REASONING,
        "compaction": record({"id": NAME, "encrypted_content": NAME}, {"created_by": STRING}),
    },
)
USAGE = record(
    {
        "input_tokens": COUNT,
        "input_tokens_details": record({"cached_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": record({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)
_TOOL = by(
    "type",
    {
        "function": record(
            {
                "name": NAME,
                "description": nullable(STRING),
                "parameters": nullable(OBJECT),
                "strict": nullable(BOOLEAN),
            }
        )
    },
)
_FORMAT = by(
    "type",
    {
        "json_schema": record(
            {
                "name": NAME,
                "description": nullable(STRING),
                "schema": OBJECT,
                "strict": BOOLEAN,
            }
        )
    },
)

_SET = {
    "completed": {"completed_at": COUNT, "error": NULL, "incomplete_details": NULL, "usage": USAGE},
    "incomplete": {
        "completed_at": NULL,
        "error": NULL,
        "incomplete_details": record({"reason": NAME}),
        "usage": USAGE,
    },
    "failed": {
        "completed_at": NULL,
        "error": record({"code": NAME, "message": NAME}),
        "incomplete_details": NULL,
    },
    "in_progress": {
        "completed_at": NULL,
        "error": NULL,
        "incomplete_details": NULL,
        "usage": NULL,
        "output": several(ANYTHING, most=0),
    },
}
"""What each status says of other keys."""

RESPONSE: Rule = {
    "allOf": [
        record(
            {
                "id": starting("resp_"),
                "object": among("response"),
                "created_at": COUNT,
                "completed_at": nullable(COUNT),
                "status": NAME,
                "incomplete_details": nullable(OBJECT),
                "model": NAME,
                "previous_response_id": nullable(NAME),
                "instructions": nullable(STRING),
                "output": several(ITEM),
                "error": nullable(OBJECT),
                "tools": several(_TOOL),
                "tool_choice": {"type": ["string", "object"]},
                "truncation": among("auto", "disabled"),
                "parallel_tool_calls": BOOLEAN,
                "text": record({"format": _FORMAT}, {"verbosity": among("low", "medium", "high")}),
                "top_p": NUMBER,
                "presence_penalty": NUMBER,
                "frequency_penalty": NUMBER,
                "top_logprobs": COUNT,
                "temperature": NUMBER,
                "reasoning": nullable(record({"effort": ANYTHING, "summary": ANYTHING})),
                "usage": nullable(USAGE),
                "max_output_tokens": nullable(COUNT),
                "max_tool_calls": nullable(COUNT),
                "store": BOOLEAN,
                "background": BOOLEAN,
                "service_tier": NAME,
                "metadata": OBJECT,
                "safety_identifier": nullable(STRING),
                "prompt_cache_key": nullable(STRING),
            }
        ),
        by("status", {status: record(keys) for status, keys in _SET.items()}),
    ]
}
COMPACTION = record(
    {
        "id": NAME,
        "object": among("response.compaction"),
        "created_at": COUNT,
        "output": several(ITEM, least=1),
        "usage": USAGE,
    }
)


def _carries(status: str) -> Rule:
    """An event with a whole response of that status."""
    inside = {"allOf": [RESPONSE, record({"status": among(status)})]}
    return record({"response": inside})


_ERROR = record(
    {
        "code": nullable(STRING),
        "message": NAME,
        "param": nullable(STRING),
        "error": record(
            {
                "type": NAME,
                "code": nullable(STRING),
                "message": NAME,
                "param": nullable(STRING),
            }
        ),
    }
)
_DELTA_LOGPROBS = {**_IN_CONTENT, "delta": STRING, "logprobs": several(OBJECT)}

EVENT: Rule = {
    "allOf": [
        record({"type": NAME, "sequence_number": COUNT}),
        by(
            "type",
            {
                "response.created": _carries("in_progress"),
                "response.in_progress": _carries("in_progress"),
                "response.completed": _carries("completed"),
                "response.incomplete": _carries("incomplete"),
                "response.failed": _carries("failed"),
                "response.output_item.added": record({"output_index": COUNT, "item": ITEM}),
                "response.output_item.done": record({"output_index": COUNT, "item": ITEM}),
                "response.content_part.added": record({**_IN_CONTENT, "part": PART}),
                "response.content_part.done": record({**_IN_CONTENT, "part": PART}),
                "response.output_text.delta": record(_DELTA_LOGPROBS),
                "response.output_text.done": record(
                    {**_IN_CONTENT, "text": STRING, "logprobs": several(OBJECT)}
                ),
                "response.output_text.annotation.added": record(
                    {**_IN_CONTENT, "annotation_index": COUNT, "annotation": ANNOTATION}
                ),
                "response.refusal.delta": record({**_IN_CONTENT, "delta": STRING}),
                "response.refusal.done": record({**_IN_CONTENT, "refusal": STRING}),
                "response.reasoning.delta": record({**_IN_CONTENT, "delta": STRING}),
                "response.reasoning.done": record({**_IN_CONTENT, "text": STRING}),
                "response.reasoning_summary_part.added": record({**_IN_SUMMARY, "part": PART}),
                "response.reasoning_summary_part.done": record({**_IN_SUMMARY, "part": PART}),
                "response.reasoning_summary_text.delta": record({**_IN_SUMMARY, "delta": STRING}),
                "response.reasoning_summary_text.done": record({**_IN_SUMMARY, "text": STRING}),
                "response.function_call_arguments.delta": record({**_IN_OUTPUT, "delta": STRING}),
                "response.function_call_arguments.done": record(
                    {**_IN_OUTPUT, "name": NAME, "arguments": STRING}
                ),
                "error": _ERROR,
            },
        ),
    ]
}
KNOWN_ONLY_HERE = {"response.reasoning.delta", "response.reasoning.done"}
"""Events of Open Responses without a type in the SDK."""
