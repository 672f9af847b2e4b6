"""OpenAI's speech: audio as it comes, or events with audio in base64."""

from edge.dialects.typed_events import TypedEventRelay

from .audio_types import content_type

__all__ = ["content_type", "relay"]

_AUDIO = frozenset(("speech.audio.delta",))
_DONE = frozenset(("speech.audio.done",))


def relay(model: str, *, disclose: bool = False) -> TypedEventRelay:
    """The relay of speech as events. model: the caller's name of it."""
    return TypedEventRelay(_AUDIO, _DONE, model, disclose=disclose)
