"""What set-up text is made from, and what it is made of."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from edge.endpoints import BY_NAME

from .literals import word

USUAL_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {name: row.path for name, row in BY_NAME.items() if "*" not in row.path}
)


class Offered(msgspec.Struct, frozen=True):
    """A model that a client may use.

    context, max_output: tokens, None if unknown. images: whether it reads images.
    voices: of a model that speaks.
    """

    id: str
    name: str = ""
    context: int | None = None
    max_output: int | None = None
    images: bool = False
    voices: tuple[str, ...] = ()


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway, a key and the chosen models.

    slug: the brand in `[a-z0-9-]`. url: of the gateway, without a version.
    key: the key, or a placeholder. variable: the environment variable that holds it.
    needs_key: False where the gateway takes requests without one.
    paths: where the endpoints are that this gateway offers, by their names.
    by_shape: those whose path speaks another dialect unless the request has a sign of theirs.
    large, model, small: the models for hard, usual and background work; Claude Code calls them
        opus, sonnet and haiku. Clients with one model use `model`.
    models: all that a client's list of models should have.
    """

    brand: str
    slug: str
    url: str
    key: str
    variable: str
    large: Offered
    model: Offered
    small: Offered
    models: tuple[Offered, ...]
    needs_key: bool = True
    paths: Mapping[str, str] = USUAL_PATHS
    by_shape: frozenset[str] = frozenset()

    def base(self, endpoint: str, added: str) -> str:
        """The base URL of clients that add the path `added` for an endpoint; "" if none leads
        there."""
        path = self.paths.get(endpoint, "")
        return f"{self.url}{path.removesuffix(added)}" if path.endswith(added) else ""

    @property
    def anthropic_url(self) -> str:
        """The base URL for clients of Anthropic's dialect; "" where they cannot be used."""
        return self.base("messages", "/v1/messages")

    @property
    def responses_url(self) -> str:
        """The base URL for clients of OpenAI Responses; "" where they cannot be used."""
        return self.base("responses", "/responses")

    @property
    def openai_url(self) -> str:
        """The base URL for clients of Chat Completions; "" where they cannot be used."""
        return self.base("chat.completions", "/chat/completions")

    @property
    def provider(self) -> str:
        """Name of the gateway in a client's list of providers. Clients have providers of their own,
        whose names have other meanings."""
        return f"{self.slug}-gateway" if self.slug in _TAKEN else self.slug

    @property
    def listed(self) -> tuple[Offered, ...]:
        """The chosen models and then all others, each once."""
        chosen = (self.model, self.large, self.small)
        return tuple({model.id: model for model in (*chosen, *self.models)}.values())

    @property
    def fallbacks(self) -> tuple[Offered, ...]:
        """The other chosen models, each once."""
        others = {model.id: model for model in (self.large, self.small)}
        others.pop(self.model.id, None)
        return tuple(others.values())

    @property
    def export(self) -> str:
        """The shell line that sets the variable."""
        return f"export {self.variable}={word(self.key)}"


_TAKEN = frozenset(
    (
        *("amazon-bedrock", "anthropic", "azure", "google", "groq", "lmstudio", "mistral"),
        *("ollama", "openai", "opencode", "openrouter", "oss", "xai"),
    )
)


class Block(msgspec.Struct, frozen=True):
    """Text to paste: the file `path`, or lines for a shell if there is none.

    language: name of its syntax. title: what it is for.
    """

    title: str
    language: str
    text: str
    path: str = ""


class Guide(msgspec.Struct, frozen=True):
    """The set-up of one client. id: anchor on the page. notes: sentences; code in backticks."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()


def key_variable(slug: str) -> str:
    """The environment variable for a brand's key, such as PENSTOCK_API_KEY."""
    name = slug.upper().replace("-", "_") + "_API_KEY"
    return f"_{name}" if name[0].isdigit() else name
