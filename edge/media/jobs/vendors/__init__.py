"""Adapters of the upstreams that take jobs, by the name that a configuration gives them."""

from collections.abc import Mapping
from typing import Final

from .base import Vendor
from .elevenlabs import ElevenLabs
from .fal import Fal
from .minimax import MiniMax
from .new_api import NewAPI
from .openai_videos import OpenAIVideos
from .penstock import Penstock
from .suno import Suno
from .xai import XAI

VENDORS: Final[Mapping[str, Vendor]] = {
    "openai-videos": OpenAIVideos(),
    "xai": XAI(),
    "new-api": NewAPI(),
    "fal": Fal(),
    "suno": Suno(),
    "minimax": MiniMax(),
    "elevenlabs": ElevenLabs(),
    "penstock": Penstock(),
}
