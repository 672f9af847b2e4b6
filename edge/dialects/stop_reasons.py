"""Stop reasons: the words that upstreams write, and their meanings.

One table serves all dialects: servers mix the vendors' words, and resellers pass on those of the
vendor behind them. Case, and the prefix of Google's enumeration, make no difference.

    meaning      what it is
    Stop         the answer ended, and how
    "failed"     the upstream was interrupted; the answer is incomplete
    None         no reason, as in "" and null
"""

from collections.abc import Mapping
from typing import Literal

from edge.vendors.errors.redact import redacted

from .events import Failed, Stop

_PREFIX = "finish_reason_"
_WORDS: Mapping[Stop | Literal["failed"], str] = {
    "end": "stop end_turn eos eos_token eog_token complete completed done end finished success "
    "compaction",
    "stop_sequence": "stop_sequence stop_string",
    "length": "length max_tokens max_output_tokens max_completion_tokens max_new_tokens max_length "
    "model_length model_context_window_exceeded context_window_exceeded context_length_exceeded "
    "repetition_truncation repetition token_limit error_limit",
    "tool_use": "tool_calls tool_call tool_use function_call function_calls",
    "pause": "pause_turn",
    "refusal": "content_filter content_filtered content_policy_violation refusal sensitive safety "
    "prohibited_content blocklist spii recitation language image_safety image_recitation "
    "image_prohibited_content guardrail_intervened guardrails error_toxic data_inspection_failed "
    "model_armor moderation",
    "failed": "error abort aborted cancelled canceled user_cancel failed network_error "
    "server_error internal_error insufficient_system_resource timeout overloaded "
    "malformed_function_call malformed_response malformed_tool_use malformed_model_output "
    "unexpected_tool_call too_many_tool_calls missing_thought_signature cancel interrupted "
    "failure connection_error upstream_error internal_server_error image_other no_image other",
}
WORDS = {meaning: tuple(words.split()) for meaning, words in _WORDS.items()}
"""By meaning, its words in lower case."""
_NONE = frozenset(("", "null", "none", "unspecified"))
_MEANINGS: Mapping[str, Stop | Literal["failed"]] = {
    word: meaning for meaning, words in WORDS.items() for word in words
}
_REASON = 100


def stop_of(word: str | None) -> Stop | Literal["failed"] | None:
    """The meaning of `word`. An unknown word means a good end: vendors add such words."""
    if word is None:
        return None
    if (known := _MEANINGS.get(word)) is not None:
        return known
    normal = _normal(word)
    if normal in _NONE:
        return None
    return _MEANINGS.get(normal, "end")


def is_known(word: str) -> bool:
    """Whether `word` is in the table."""
    return _normal(word) in _MEANINGS


def interrupted(word: str | None) -> Failed:
    """The failure of an answer whose stop reason is `word`."""
    return Failed(f"the answer was interrupted: {redacted((word or '')[:_REASON])}")


def _normal(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_").removeprefix(_PREFIX)
