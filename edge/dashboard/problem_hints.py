"""What a caller can do about a failed request, by the kind of its problem."""

from collections.abc import Mapping

HINTS: Mapping[str, str] = {
    "budget_exceeded": "Wait until the window resets, or ask for credits.",
    "insufficient_credits": "Ask for more credits.",
    "rate_limited": "Send fewer requests at once; clients wait for retry-after.",
    "model_not_allowed": "Choose a model that this key may use.",
    "model_not_found": "Check the name of the model.",
    "endpoint_not_allowed": "This key may not call this endpoint; ask for one that may.",
    "context_length_exceeded": "Shorten the conversation, or choose a model with more context.",
    "content_filtered": "The model's provider declined the content; change the request.",
    "request_too_large": "Send a smaller body; upload large files first.",
    "upstream_error": "The provider failed. Send it again, or name a second model.",
    "upstream_signed_out": "The provider's program is not signed in on the gateway's host.",
    "upstream_timeout": "The provider was too slow. Send it again, or stream the answer.",
    "upstream_unavailable": "The provider is overloaded or away. Send it again later.",
    "invalid_request": "The request is not valid; its answer names the field.",
    "invalid_media": "A file in the request cannot be read.",
    "key_misconfigured": "Ask the operator: the plan or the limits of this key are not valid.",
}


def what_to_do(kind: str) -> str:
    """The sentence for a kind; "" where there is none."""
    return HINTS.get(kind, "")
