"""curl for what is not a conversation: embeddings, images, sound, video, music and files."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .curl import bearer, line
from .literals import body, word
from .setup import Block, Offered, Setup

_Form = tuple[tuple[str, str], ...]


def media_blocks(setup: Setup, models: Mapping[str, Offered]) -> Iterator[Block]:
    """A request to each endpoint that the gateway offers and has a model for.

    models: by the name of the endpoint.
    """
    for name, (title, write) in _REQUESTS.items():
        model = models.get(name)
        if name in setup.paths and model is not None:
            yield Block(title, "sh", write(setup, setup.paths[name], model))
    if "files" in setup.paths:
        form = (("purpose", "user_data"), ("file", "@notes.pdf"))
        yield Block("Files", "sh", _form(setup, setup.paths["files"], form))


def _embeddings(setup: Setup, path: str, model: Offered) -> str:
    return _json(setup, path, {"model": model.id, "input": "Hello"})


def _image(setup: Setup, path: str, model: Offered) -> str:
    return _json(setup, path, {"model": model.id, "prompt": "A mill by a river"})


def _speech(setup: Setup, path: str, model: Offered) -> str:
    voice = model.voices[0] if model.voices else "alloy"
    content = {"model": model.id, "voice": voice, "input": "The gate is open."}
    return _json(setup, path, content, "-o speech.mp3")


def _transcription(setup: Setup, path: str, model: Offered) -> str:
    return _form(setup, path, (("model", model.id), ("file", "@speech.mp3")))


def _video(setup: Setup, path: str, model: Offered) -> str:
    content = {"model": model.id, "prompt": "A gate opens", "seconds": 4}
    return _json(setup, path, content) + _poll(setup, path)


def _music(setup: Setup, path: str, model: Offered) -> str:
    content = {"model": model.id, "prompt": "A slow waltz for piano"}
    return _json(setup, path, content) + _poll(setup, path)


_REQUESTS: Final[Mapping[str, tuple[str, Callable[[Setup, str, Offered], str]]]] = {
    "embeddings": ("Embeddings", _embeddings),
    "images.generations": ("Images", _image),
    "audio.speech": ("Speech", _speech),
    "audio.transcriptions": ("Transcripts", _transcription),
    "videos.generations": ("Video: the answer has a job_id, which is then asked for", _video),
    "music.generations": ("Music, in the same way", _music),
}
"""Title and writer of a request, by the name of the endpoint."""


def _json(setup: Setup, path: str, content: Mapping[str, Any], *options: str) -> str:
    headers = [*bearer(setup), "Content-Type: application/json"]
    return line(f"curl {word(setup.url + path)}", headers, f"-d {body(content)}", *options)


def _form(setup: Setup, path: str, fields: _Form) -> str:
    parts = [f"-F {word(f'{name}={value}')}" for name, value in fields]
    return line(f"curl {word(setup.url + path)}", bearer(setup), *parts)


def _poll(setup: Setup, path: str) -> str:
    return line(f"curl {word(f'{setup.url}{path}/')}JOB_ID", bearer(setup))
