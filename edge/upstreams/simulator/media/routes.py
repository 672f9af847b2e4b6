"""Paths of the media endpoints, below any base URL."""

import re
from collections.abc import Callable, Mapping

from edge.upstreams.simulator.answer import SimulatedAnswer
from edge.upstreams.simulator.request import SimulatorRequest

from . import files, images, jobs, music, speech, transcription, videos

Handler = Callable[[SimulatorRequest], SimulatedAnswer]
Methods = Mapping[str, Handler]

_ROUTES: tuple[tuple[str, Methods], ...] = (
    (r"/images/generations", {"POST": images.generate}),
    (r"/images/edits", {"POST": images.edit}),
    (r"/pictures/[^/]+", {"GET": images.picture}),
    (r"/audio/speech", {"POST": speech.speak}),
    (r"/audio/transcriptions", {"POST": transcription.transcribe}),
    (r"/audio/translations", {"POST": transcription.translate}),
    (r"/files", {"POST": files.upload, "GET": files.listed}),
    (r"/files/[^/]+", {"GET": files.described, "DELETE": files.deleted}),
    (r"/files/[^/]+/content", {"GET": files.content}),
    (r"/links/[^/]+/\d", {"GET": jobs.linked}),
    (r"/videos", {"POST": videos.create, "GET": videos.listed}),
    (r"/videos/generations", {"POST": videos.create_xai}),
    (r"/videos/[^/]+", {"GET": videos.described, "DELETE": videos.deleted}),
    (r"/videos/[^/]+/content", {"GET": videos.content}),
    (r"/videos/[^/]+/remix", {"POST": videos.remix}),
    (r"/video/generations", {"POST": videos.create_new_api}),
    (r"/video/generations/[^/]+", {"GET": videos.new_api_described}),
    (r"/fal-ai/.+/requests/[^/]+/status", {"GET": videos.fal_status}),
    (r"/fal-ai/.+/requests/[^/]+/cancel", {"PUT": videos.fal_cancel}),
    (r"/fal-ai/.+/requests/[^/]+", {"GET": videos.fal_result}),
    (r"/fal-ai/.+", {"POST": videos.create_fal}),
    (r"/music_generation", {"POST": music.minimax}),
    (r"/suno/submit/music", {"POST": music.create_suno}),
    (r"/suno/fetch/[^/]+", {"GET": music.suno_described}),
    (r"/music", {"POST": music.elevenlabs}),
)
_TABLE = tuple((re.compile(pattern + "$"), methods) for pattern, methods in _ROUTES)
_STATELESS = (
    *("/images/generations", "/audio/speech", "/chat/completions", "/messages", "/responses"),
    "/embeddings",
)


def find_media(path: str) -> Methods | None:
    """Handlers of a path by method; None for a path that is not of media."""
    for pattern, methods in _TABLE:
        if pattern.search(path):
            return methods
    return None


def is_stateful(path: str) -> bool:
    """Whether equal requests to a path may get different answers."""
    return not path.endswith(_STATELESS) and find_media(path) is not None
