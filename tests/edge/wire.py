"""Requests, frames and whole answers as bytes, for tests of the chain."""

import json
from typing import Any

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
ROLE = b'data: {"model":"up","choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
HI = b'data: {"model":"up","choices":[{"delta":{"content":"Hi"}}]}\n\n'
MORE = b'data: {"model":"up","choices":[{"delta":{"content":" you"}}]}\n\n'
STOP = b'data: {"model":"up","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
COST = b'data: {"model":"up","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"up","content":[],'
    b'"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
)
BLOCK = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}\n\n'
)
TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'
DELTA = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":2}}\n\n'
END = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def body(model: str = "m1", **members: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user"}], **members}).encode()


PLAIN = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hi you"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200}}'
)
EMBEDDINGS = (
    b'{"object":"list","data":[{"embedding":[1]}],"model":"up",'
    b'"usage":{"prompt_tokens":1000,"total_tokens":1000}}'
)
