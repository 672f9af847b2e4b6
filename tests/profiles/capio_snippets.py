"""What a user of Capio pastes: curl lines, and the files and variables of coding agents.

`HOST` and `KEY` are what a user replaces.
"""

from typing import Any

HOST = "https://capiollm.tech"
KEY = "sk-capio-live-xxxxxxxxxxxx"

CURL = """\
curl https://capiollm.tech/v1/chat/completions \\
  -H "Authorization: Bearer $CAPIO_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "deepseek-v4-flash",
    "messages": [
      { "role": "user", "content": "ping" }
    ]
  }'
"""

CURL_STREAM = """\
curl https://capiollm.tech/v1/chat/completions \\
  -H "Authorization: Bearer $CAPIO_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "deepseek-v4-flash",
    "stream": true,
    "messages": [
      { "role": "user", "content": "Tell me a story" }
    ]
  }'
"""

REQUEST = """\
POST /v1/chat/completions HTTP/1.1
Host: capiollm.tech
Authorization: Bearer sk-capio-live-xxxxxxxxxxxx
Content-Type: application/json
"""

OPENAI_PYTHON = """
from openai import OpenAI

client = OpenAI(base_url="https://capiollm.tech/v1", api_key="sk-capio-live-xxxxxxxxxxxx")
answer = client.chat.completions.create(
    model="deepseek-v4-flash", messages=[{"role": "user", "content": "ping"}]
)
print(answer.model, answer.choices[0].message.role)
for chunk in client.chat.completions.create(
    model="deepseek-v4-flash", stream=True, messages=[{"role": "user", "content": "ping"}]
):
    last = chunk.choices[0].finish_reason
print(last)
"""
OPENAI_NODE = """
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: 'https://capiollm.tech/v1',
  apiKey: 'sk-capio-live-xxxxxxxxxxxx',
});
const asked = { model: 'deepseek-v4-flash', messages: [{ role: 'user', content: 'ping' }] };
const answer = await client.chat.completions.create(asked);
console.log(answer.model, answer.choices[0].message.role);
let last;
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  last = chunk.choices[0].finish_reason;
}
console.log(last);
"""

CLAUDE_CODE = """\
export CAPIO_API_KEY="sk-capio-live-xxxxxxxxxxxx"
export ANTHROPIC_BASE_URL="https://capiollm.tech"
export ANTHROPIC_AUTH_TOKEN="$CAPIO_API_KEY"
export ANTHROPIC_API_KEY=""
"""

CLAUDE_SETTINGS = """\
{
  "env": {
    "ANTHROPIC_BASE_URL": "https://capiollm.tech",
    "ANTHROPIC_AUTH_TOKEN": "sk-capio-live-xxxxxxxxxxxx",
    "ANTHROPIC_API_KEY": ""
  }
}
"""

CLAUDE_TIERS = """\
export ANTHROPIC_DEFAULT_OPUS_MODEL="capio/claude-opus-4-8"
export ANTHROPIC_DEFAULT_SONNET_MODEL="capio/MiniMax-M3"
export ANTHROPIC_DEFAULT_HAIKU_MODEL="capio/deepseek-v4-flash"
"""

OPENCODE = """\
{
  "$schema": "https://opencode.ai/config.json",
  "provider": {
    "capio": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "Capio",
      "models": {
        "claude-opus-4-8": {},
        "gpt-5.5": {},
        "MiniMax-M3": {},
        "deepseek-v4-pro": {},
        "deepseek-v4-flash": {},
        "kimi-k2.6": {}
      },
      "options": {
        "baseURL": "https://capiollm.tech/v1",
        "apiKey": "{env:CAPIO_API_KEY}"
      }
    }
  }
}
"""

OPENCODE_KEY = """\
{
  "capio": {
    "type": "api",
    "key": "sk-capio-live-xxxxxxxxxxxx"
  }
}
"""

OPENCLAW = """\
{
  "env": {
    "CAPIO_API_KEY": "sk-capio-live-xxxxxxxxxxxx"
  },
  "agents": {
    "defaults": {
      "model": {
        "primary": "capio/deepseek-v4-flash"
      },
      "models": {
        "capio/deepseek-v4-flash": {}
      }
    }
  }
}
"""

OPENCLAW_FALLBACKS = """\
{
  "env": {
    "CAPIO_API_KEY": "sk-capio-live-xxxxxxxxxxxx"
  },
  "agents": {
    "defaults": {
      "model": {
        "primary": "capio/deepseek-v4-flash",
        "fallbacks": [
          "capio/deepseek-v4-pro",
          "capio/MiniMax-M3",
          "capio/kimi-k2.6"
        ]
      },
      "models": {
        "capio/deepseek-v4-flash": {},
        "capio/deepseek-v4-pro": {},
        "capio/MiniMax-M3": {},
        "capio/kimi-k2.6": {}
      }
    }
  }
}
"""


def openclaw_provider(url: str) -> dict[str, Any]:
    """What the files of OpenClaw lack: it knows no provider `capio`, so they say where it is.

    url: of the gateway, without a version.
    """
    capio = {"baseUrl": f"{url}/v1", "apiKey": "${CAPIO_API_KEY}", "models": []}
    return {"models": {"providers": {"capio": capio}}}
