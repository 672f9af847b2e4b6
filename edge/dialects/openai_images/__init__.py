"""OpenAI's images: an object with the images in base64 or as links, or events with them."""

from edge.dialects.typed_events import TypedEventRelay

from .answer import Image, ImageAnswer, read_answer

__all__ = ["Image", "ImageAnswer", "read_answer", "relay"]

_PARTIAL = frozenset(("image_generation.partial_image", "image_edit.partial_image"))
_COMPLETED = frozenset(("image_generation.completed", "image_edit.completed"))


def relay(model: str, count: int, *, disclose: bool = False) -> TypedEventRelay:
    """The relay of images as events. model: the caller's name of it. count: images requested."""
    return TypedEventRelay(_PARTIAL, _COMPLETED, model, parts=count, disclose=disclose)
