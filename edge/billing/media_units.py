"""What images, speech and transcripts are charged by: tokens where the upstream counts them, else
units.

    price      upstream counts tokens    it counts none
    tokens     its count                 an estimate
    units      units                     units
    both       its count                 units

The units of images are the images that came, at `price.image`. The units of speech are the
characters of its text, at `price.character`; or the time that these take at a slow pace, at
`price.audio_minute`, since most formats do not say how long they are. So speech costs the same in
each format, streamed or not, and heard out or not. The unit of a transcript is the time of its
audio: as the upstream says, else as it was measured here, so that no format of an answer is free.

The estimate for images and speech is the bound that was reserved; for a transcript, the tokens of
its text and of its audio.
"""

from math import ceil

from msgspec.structs import replace

from edge.endpoints import Endpoint
from edge.requests.image_request import Fields, image_request_of
from edge.requests.speech_request import Speech, speech_of
from middlewares.exchange import Usage
from middlewares.pricing import Price

_SPEECH_TOKENS = 25
"""Output tokens of a second of speech; OpenAI's models make about 20."""
_HEARD_TOKENS = 25
"""Input tokens of a second of audio; OpenAI's transcribers count 10 to 17."""
_LEAST_HEARD_TOKENS = 10
"""Input tokens of a second of audio whose upstream counts none."""
_SAID_TOKENS = 12
"""Output tokens of a second of audio; fast talkers say 5 words, in other scripts 10 tokens."""
_LEAST_SAID = 200
"""Output tokens of any transcript, for the labels of speakers and a prompt that is repeated."""


def most_of(
    row: Endpoint, fields: Fields, price: Price, most: int | None, audio_ms: int = 0
) -> tuple[int, Usage | None]:
    """The most output tokens of a request, and the most units; None where it has none.

    price: the highest of the models that may serve it. most: output tokens of one answer of theirs,
    None if unknown. audio_ms: milliseconds of its audio. Raises Problem for a request that cannot
    be counted.
    """
    if row.billed == "images":
        asked = image_request_of(fields)
        output = asked.output if most is None else min(asked.output, most * asked.most)
        return output, Usage(images=asked.most)
    if row.billed == "characters":
        speech = speech_of(fields)
        units = Usage(characters=speech.characters)
        if price.audio_minute:
            units.audio_ms = speech.milliseconds
        return speech_tokens(speech), units
    if row.billed == "audio":
        return transcript_tokens(audio_ms), Usage(audio_ms=most_audio(audio_ms))
    return 0, None


def most_audio(audio_ms: int) -> int:
    """The most milliseconds that audio of this length is charged by: vendors round up to a
    second."""
    return -(-audio_ms // 1000) * 1000


def heard_tokens(audio_ms: int) -> int:
    """The most input tokens of audio."""
    return ceil(audio_ms * _HEARD_TOKENS / 1000)


def estimated_tokens(audio_ms: int) -> int:
    """The input tokens of audio whose upstream counts none, by the fewest that others count."""
    return ceil(audio_ms * _LEAST_HEARD_TOKENS / 1000)


def transcript_tokens(audio_ms: int) -> int:
    """The most output tokens of a transcript."""
    return ceil(audio_ms * _SAID_TOKENS / 1000) + _LEAST_SAID


def speech_tokens(speech: Speech) -> int:
    """The most output tokens of speech."""
    return ceil(speech.milliseconds * _SPEECH_TOKENS / 1000)


def units_of_speech(speech: Speech, price: Price | None) -> Usage:
    """The units that speech is charged by."""
    timed = price is not None and price.audio_minute and not price.character
    return Usage(characters=speech.characters, audio_ms=speech.milliseconds if timed else 0)


def settled(
    price: Price | None, reported: Usage | None, units: Usage, *, input_tokens: int, output: int
) -> tuple[Usage, bool]:
    """The usage to charge, and whether all of it was counted.

    reported: tokens that the upstream counted. units: what was made. input_tokens, output: the
    estimates of tokens that were not counted.
    """
    by_tokens = has_tokens(price)
    if by_tokens and reported is not None:
        usage = reported.with_estimates(input_tokens, output)
        return usage, usage is reported
    if not by_tokens or (price is not None and _has_unit(price)):
        return _joined(reported or Usage(), units), True
    return _joined(Usage(input_tokens, output), units), False


def has_tokens(price: Price | None) -> bool:
    """Whether tokens have a price."""
    return price is not None and bool(price.input or price.output)


def _has_unit(price: Price) -> bool:
    return bool(price.image or price.character or price.audio_minute)


def _joined(tokens: Usage, units: Usage) -> Usage:
    return replace(
        tokens, images=units.images, characters=units.characters, audio_ms=units.audio_ms
    )
