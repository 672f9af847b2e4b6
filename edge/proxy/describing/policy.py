"""Decides which media a target takes itself, and what follows when a text cannot be made."""

from typing import Literal

from edge.dialects.codec import TargetModel
from edge.media.part import MediaKind, MediaPart

from .describers import Describers

OnError = Literal["refuse", "note"]
Outcome = Literal["made", "failed", "timeout", "budget", "invalid", "unsupported", "too_many"]
"""How the making of a text ended. failed: by the describer or a decoder that had no room; invalid:
the media cannot be read; unsupported: nothing here reads them; too_many: beyond `max_new`."""

_MODALITIES: dict[MediaKind, str] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "document": "file",
}


def takes(model: TargetModel, kind: MediaKind, describers: Describers) -> bool:
    """Whether media of this kind are sent to `model` as they are.

    A model whose catalog entry does not say what it takes gets them, unless a describer of the kind
    is configured.
    """
    if model.modalities is not None:
        return _MODALITIES[kind] in model.modalities
    return describers.of(kind) is None


def may_be_noted(part: MediaPart, outcome: Outcome, on_error: OnError) -> bool:
    """Whether a note may stand for media that cannot be read.

    A session sends its old media in every turn, so a refusal of those would end it.
    """
    if outcome == "budget":
        return False
    return not part.recent or (on_error == "note" and outcome in ("failed", "timeout"))
