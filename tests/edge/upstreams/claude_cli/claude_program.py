"""Fake Claude client with a failure mode: `claude_program.py MODE LOG`.

For what the real one cannot be made to do. It leaves a file named after its process in the folder
LOG, and in it how many bytes it has written, and `stopped` once a pipe was full.
"""

import json
import os
import signal
import sys
from pathlib import Path
from select import select
from typing import Any

MODE, LOG = sys.argv[1], Path(sys.argv[2]) / str(os.getpid())
written = 0


def put(text: str) -> None:
    global written
    written += os.write(1, text.encode())


def say(**line: Any) -> None:
    put(json.dumps(line) + "\n")


def event(kind: str, **members: Any) -> None:
    say(type="stream_event", event={"type": kind, **members})


def begin() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    event("message_start", message={**message, "content": [], "usage": usage})
    event("content_block_start", index=0, content_block={"type": "text", "text": ""})


def words(text: str) -> None:
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def end() -> None:
    event("content_block_stop", index=0)
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
    event("message_stop")


def wait() -> None:
    while sys.stdin.readline():
        pass
    while MODE == "deaf":
        signal.pause()


def refuse(status: int | None, error: str, text: str) -> None:
    message = {"content": [{"type": "text", "text": text}]}
    say(type="assistant", error=error, api_error_status=status, message=message)


def answer() -> None:
    match MODE:
        case "whole" | "deaf":
            begin()
            words("hello")
            if MODE == "whole":
                end()
        case "garbage":
            begin()
            put("no JSON\n")
        case "endless":
            begin()
            while True:
                put("x" * 65536)
        case "dies":
            begin()
            words("hel")
            os.write(2, b"boom with sk-ant-secret-1234567890\n")
            sys.exit(3)
        case "stalls":
            begin()
            words("hel")
        case "made-up":
            begin()
            words("hel")
            event("content_block_stop", index=0)
            event("message_stop")
            refuse(529, "server_error", "it broke")
        case "twice":
            begin()
            begin()
        case "limited":
            info = {"status": "rejected", "resetsAt": 4102444800}
            say(type="rate_limit_event", rate_limit_info=info)
            refuse(429, "rate_limit", "no more today")
        case "blank":
            say(type="result", is_error=False, num_turns=0, result="Blank prompt")
        case "nothing":
            say(type="result", is_error=False, num_turns=1, result="")
        case "flood":
            begin()
            stopped = ""
            while True:
                if not select([], [1], [], 0)[1]:
                    stopped = "stopped"
                LOG.write_text(f"{written} {stopped}")
                words("x" * 1000)


def main() -> None:
    if MODE == "crash":
        os.write(2, b"cannot start\n")
        sys.exit(7)
    if MODE == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    LOG.write_text("0")
    while text := sys.stdin.readline():
        line = json.loads(text)
        if line["type"] == "control_request":
            reported: dict[str, Any] = {
                "claude_code_version": "2.0.9" if MODE == "old" else "9.0.0",
                "commands": [],
            }
            outcome = "error" if MODE == "refuses" else "success"
            response = {"subtype": outcome, "request_id": line["request_id"], "response": reported}
            if MODE == "asks" and line["request"]["subtype"] == "initialize":
                message = {"method": "initialize", "params": {}}
                wish = {"subtype": "mcp_message", "server_name": "caller", "message": message}
                say(type="control_request", request_id="r", request=wish)
            say(type="control_response", response={**response, "error": "not me"})
        elif line["type"] == "assistant":
            say(type="command_lifecycle", command_uuid=line["uuid"], state="completed")
        elif line.get("shouldQuery") is False:
            say(type="result", is_error=False, num_turns=0)
        else:
            say(type="system", subtype="init", tools=[])
            answer()
            wait()


if __name__ == "__main__":
    main()
