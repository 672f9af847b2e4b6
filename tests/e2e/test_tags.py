"""Tags of requests: to the ledger, the log and grouped usage, and to no upstream."""

import json
from typing import Any

import httpx

from .conftest import ADMIN_TOKEN, Start
from .program import Gateway, until
from .scripted_upstream import Answer, scripted_upstream

ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "scripted",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
SCRIPTS = {"scripted": [Answer(pieces=[json.dumps(ANSWER).encode()])]}
ORIGIN = "https://app.example"


def admin(gateway: Gateway, path: str) -> Any:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    answer = httpx.get(f"{gateway.url}/admin/v1{path}", headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tags_reach_ledger_log_and_usage_and_no_upstream(start: Start) -> None:
    with scripted_upstream(SCRIPTS) as upstream:
        gateway = start(
            {
                "auth": {"admin_token": "env:ADMIN_TOKEN"},
                "server": {"cors_origins": [ORIGIN]},
                "upstreams": [{"name": "far", "dialect": "openai", "base_url": upstream.url}],
                "models": [{"id": "m", "targets": ["far/scripted"], "price": {"input": "1000000"}}],
            }
        )
        secret = gateway.new_key("ann")

        def ask(*tags: str) -> httpx.Response:
            return httpx.post(
                f"{gateway.url}/v1/chat/completions",
                headers=[
                    ("authorization", f"Bearer {secret}"),
                    *(("x-request-tags", tag) for tag in tags),
                ],
                json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
                trust_env=False,
            )

        for tags in (("stage:b, a",), ("a", "a,z/1"), ()):
            assert ask(*tags).status_code == 200
        refused = ask("a b")
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "x-request-tags"
        assert "letters, digits" in refused.json()["error"]["message"]
        assert len(upstream.asked["scripted"]) == 3
        for asked in upstream.asked["scripted"]:
            assert "x-request-tags" not in asked.headers
            assert "stage:b" not in str(asked)

        until(lambda: len(admin(gateway, "/ledger?kind=use")["data"]) == 3, what="rows")
        rows = admin(gateway, "/ledger?tag=a")["data"]
        assert sorted(row["tags"] for row in rows) == [["a", "stage:b"], ["a", "z/1"]]
        found = admin(gateway, "/usage?group_by=tag")
        assert [(one["tag"], one["requests"]) for one in found["data"]] == [
            ("", 1),
            ("a", 2),
            ("stage:b", 1),
            ("z/1", 1),
        ]
        assert found["total"]["credits"] == "30.00"
        own = httpx.get(
            f"{gateway.url}/v1/usage?group_by=tag&tag=z/1",
            headers={"authorization": f"Bearer {secret}"},
            trust_env=False,
        ).json()
        assert [(one["tag"], one["credits"]) for one in own["data"]] == [("z/1", "10.00")]
        gateway.whole_log()
        logged = [line["tags"] for line in gateway.log if "tags" in line]
        assert logged == [["stage:b", "a"], ["a", "z/1"]]

        preflight = httpx.options(
            f"{gateway.url}/v1/chat/completions",
            headers={
                "origin": ORIGIN,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization, x-request-tags",
            },
            trust_env=False,
        )
        assert preflight.status_code == 200
        assert "x-request-tags" in preflight.headers["access-control-allow-headers"]
