"""The SDKs of OpenAI and Anthropic, for Python and for JavaScript.

They refuse to start without a key, so a gateway that needs none gets a placeholder.
"""

from .literals import string
from .setup import Block, Guide, Setup


def openai(setup: Setup) -> Guide:
    """OpenAI's SDKs."""
    base, model = string(setup.openai_url), string(setup.model.id)
    python = f"""\
{_import(setup)}from openai import OpenAI

client = OpenAI(base_url={base}, api_key={_python_key(setup)})
reply = client.chat.completions.create(
    model={model}, messages=[{{"role": "user", "content": "Hello"}}]
)
print(reply.choices[0].message.content)
"""
    script = f"""\
import OpenAI from 'openai'

const client = new OpenAI({{ baseURL: {base}, apiKey: {_script_key(setup)} }})
const reply = await client.chat.completions.create({{
  model: {model},
  messages: [{{ role: 'user', content: 'Hello' }}],
}})
console.log(reply.choices[0].message.content)
"""
    return _guide("openai", "OpenAI SDK", "openai", python, script)


def anthropic(setup: Setup) -> Guide:
    """Anthropic's SDKs."""
    base, model = string(setup.anthropic_url), string(setup.model.id)
    python = f"""\
{_import(setup)}from anthropic import Anthropic

client = Anthropic(base_url={base}, api_key={_python_key(setup)})
reply = client.messages.create(
    model={model}, max_tokens=256, messages=[{{"role": "user", "content": "Hello"}}]
)
print(reply.content[0].text)
"""
    script = f"""\
import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic({{ baseURL: {base}, apiKey: {_script_key(setup)} }})
const reply = await client.messages.create({{
  model: {model},
  max_tokens: 256,
  messages: [{{ role: 'user', content: 'Hello' }}],
}})
console.log(reply.content[0].text)
"""
    return _guide("anthropic", "Anthropic SDK", "@anthropic-ai/sdk", python, script)


def _import(setup: Setup) -> str:
    return "import os\n\n" if setup.needs_key else ""


def _python_key(setup: Setup) -> str:
    return f'os.environ["{setup.variable}"]' if setup.needs_key else string(setup.key)


def _script_key(setup: Setup) -> str:
    return f"process.env.{setup.variable}" if setup.needs_key else string(setup.key)


def _guide(name: str, title: str, package: str, python: str, script: str) -> Guide:
    return Guide(
        name,
        title,
        (
            Block(f"Python, after `pip install {name}`", "python", python, "hello.py"),
            Block(f"JavaScript, after `npm install {package}`", "js", script, "hello.mjs"),
        ),
    )
