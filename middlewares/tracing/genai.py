"""Names of OpenTelemetry's conventions for generative AI, v0.1.0 of semantic-conventions-genai.

A module of our own, since the conventions left the main repository in 2026, and the constants of
the package `opentelemetry-semantic-conventions` are deprecated. `TYPES` has every name that a span
may have and the type of its value, as the registry gives them.
"""

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"

REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_REASONING: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS: Final = "gen_ai.request.previous_response.id"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_ENCODINGS: Final = "gen_ai.request.encoding_formats"
EMBEDDING_DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"

RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST: Final = "gen_ai.response.time_to_first_chunk"

USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
"""The name before v0.1.0; sent beside the new one for one release."""
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"

SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
CONTENT: Final = frozenset((SYSTEM_INSTRUCTIONS, INPUT_MESSAGES, OUTPUT_MESSAGES, TOOL_DEFINITIONS))
"""What callers and models wrote: JSON as text, only where `content` is switched on."""

TYPES: Final[dict[str, type | tuple[type]]] = {
    OPERATION: str,
    PROVIDER: str,
    CONVERSATION: str,
    OUTPUT_TYPE: str,
    REQUEST_MODEL: str,
    REQUEST_STREAM: bool,
    REQUEST_MAX_TOKENS: int,
    REQUEST_TEMPERATURE: float,
    REQUEST_TOP_P: float,
    REQUEST_TOP_K: int,
    REQUEST_STOP: (str,),
    REQUEST_SEED: int,
    REQUEST_CHOICES: int,
    REQUEST_REASONING: str,
    REQUEST_PREVIOUS: str,
    REQUEST_FREQUENCY_PENALTY: float,
    REQUEST_PRESENCE_PENALTY: float,
    REQUEST_ENCODINGS: (str,),
    EMBEDDING_DIMENSIONS: int,
    RESPONSE_ID: str,
    RESPONSE_MODEL: str,
    RESPONSE_FINISH: (str,),
    RESPONSE_FIRST: float,
    USAGE_INPUT: int,
    USAGE_OUTPUT: int,
    USAGE_CACHE_READ: int,
    USAGE_CACHE_WRITE: int,
    USAGE_CACHE_CREATION: int,
    USAGE_REASONING: int,
    SYSTEM_INSTRUCTIONS: str,
    INPUT_MESSAGES: str,
    OUTPUT_MESSAGES: str,
    TOOL_DEFINITIONS: str,
}
"""Type of each value; a tuple of one type for a list of it."""
