"""Estimate the tokens of a prompt without a tokenizer, cheaply and rather too high than too low.

Theory of operation. The weight of a prompt does not depend on the model; the estimate is the weight
multiplied by a factor that is learned per model.

    size       of a body that is not decoded. Media in it are found by their form and counted
               separately; the rest has its own factor, tokens per byte, with a minimum that is
               higher for digits, signs and all that is not English than for letters.
    weigh      UTF-8 bytes have classes (small letters, digits, kana, ...), each with its tokens
               per byte. Runs of letters distinguish texts: English words are short and whole in
               every vocabulary, words of other languages are split, and base64 has no words. One
               `bytes.translate` per class over the remaining bytes: 4 ms for 1 MB, 7 us for 1 KB.
    fixed      tokens that vendors add to turns and tools, and media: published figures of the most
               expensive vendor. Not scaled.
    factor     of the last 128 observations (tokens the upstream counted, over the weight of the
               text), the 96th percentile and 5 % more, within bounds. It is 1 at the start, and
               cannot fall below that before 25 observations have come.
    principal  each has its own factors, learned from its own texts, so unusual texts of one key do
               not change the reservations of another. A new one begins with the median of all.

Measured (`tests/edge/counted.json`): the classes are worth the least that undercounts none of 43
texts, of 20 languages, code, JSON, logs and base64, by any of the first eight vocabularies; random
printable bytes and UUIDs alone are up to 8 % more. Estimate at factor 1 over the true count:

                o200k  cl100k  llama3  gemini  claude3  claude4.7  deepseek  qwen | smollm2
    English      1.49    1.49    1.49    1.52     1.47       1.13      1.48  1.49      1.48
    German       2.02    1.67    1.67    2.10     1.41       1.03      1.68  1.67      1.29
    Russian      1.64    1.07    1.61    1.82     1.27       1.27      1.50  1.43      0.69
    Japanese     1.83    1.40    2.05    2.57     1.48       1.49      2.14  2.28      0.85
    emoji        1.81    1.26    1.33    2.65     1.09       1.05      1.69  1.72      1.16
    Python       1.58    1.59    1.59    1.37     1.35       1.10      1.52  1.57      1.44
    JSON         1.76    1.82    1.82    1.49     1.53       1.21      1.62  1.59      1.35
    base64       1.38    1.35    1.35    1.35     1.12       1.04      1.37  1.29      1.17
    spaces      16.07   16.07   16.07    2.78     2.78       2.78     16.07  16.07     9.04

Claude from 4.7 on counts 30 to 50 % more than before, so all others begin high; two dozen answers
later they do not. Vocabularies made for one language, as that of smollm2, undercount other scripts
until learnt.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from operator import add
from string import ascii_lowercase, ascii_uppercase, digits, punctuation

import msgspec
from msgspec import Struct

from edge.dialects.conversation import (
    Audio,
    Block,
    Conversation,
    Document,
    Image,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)

from .body_weight import BodyWeight, least_tokens
from .learned_factors import PER_BYTE, ByteFactor, LearnedFactors, WeightFactor
from .media_tokens import (
    LARGEST_IMAGE,
    audio_tokens,
    file_tokens,
    image_tokens,
    media_in,
    pdf_tokens,
)

_OTHER, _LETTER, _BREAK = range(3)
_CLASSES: tuple[tuple[bytes, float, int], ...] = (
    (ascii_lowercase.encode(), 0.32, _LETTER),
    (b" ", 0.18, _BREAK),
    (bytes(range(0x80, 0xC0)), 0.0, _OTHER),  # what follows a first byte of UTF-8
    (punctuation.replace('"', "").encode(), 1.2, _BREAK),
    (b"\n\r\t\v\f", 0.15, _BREAK),
    (b'"', 0.35, _BREAK),
    (ascii_uppercase.encode(), 1.1, _LETTER),
    (digits.encode(), 1.2, _LETTER),
    (bytes(range(0xE3, 0xEA)), 1.55, _OTHER),  # kana, Chinese characters
    (bytes(range(0xEA, 0xF0)), 1.5, _OTHER),  # hangul, forms of width
    (bytes(range(0xD0, 0xD5)), 0.57, _OTHER),  # Cyrillic
    (bytes(range(0xCD, 0xD0)), 1.05, _OTHER),  # Greek
    (bytes(range(0xD5, 0xE0)), 1.2, _OTHER),  # Hebrew, Arabic, Armenian
    (b"\xe0", 1.6, _OTHER),  # the scripts of India, Thai, Lao
    (b"\xe1", 3.0, _OTHER),  # Georgian, Ethiopic, Khmer; Vietnamese letters
    (b"\xe2", 1.75, _OTHER),  # typographic and mathematical signs
    (bytes(range(0xC0, 0xCD)), 5.0, _OTHER),  # a letter with an accent: text that is not English
    (bytes(range(0xF0, 0x100)), 3.9, _OTHER),  # emoji
)
"""Bytes, tokens per byte, kind. The most frequent first: each pass is over the rest."""
_ALL = tuple((at, row[0]) for at, row in enumerate(_CLASSES))
_ASCII = tuple(row for row in _ALL if row[1].isascii())
_REST = 1.0  # a control character
_WORD, _LONG_WORDS = 3, 0.45
"""Small letters beyond `_WORD` per other byte add `_LONG_WORDS` each."""
_RUN, _LONG_RUNS = 10, 0.2
"""Letters and digits beyond `_RUN` per break add `_LONG_RUNS` each."""

_START = 36  # a prompt of one turn; a chat template may add text
_TURN = 8
_BLOCK = 4
_CALL = 16
_TOOL = 16
_TOOLS = 700  # Anthropic: its system prompt about tools
_HOSTED = 2500  # the vendor's own description of a tool it runs
_OPAQUE = 4  # minimum characters of encrypted thinking per token

UNSEEN = file_tokens(1 << 20)
"""Tokens of a document that only the vendor sees, for counts that must not be too low."""
_LEAST_BYTES = 1024
_MEDIA = 4096
"""Bytes of body below which no embedded media are searched."""

_PIECE = 1 << 20
"""Characters or bytes counted per call."""

_encode = msgspec.json.Encoder().encode


class Weight(Struct, frozen=True):
    """The weight of a prompt, in tokens of the most compact vocabulary.

    text: text, tools and turns, which the factor scales. fixed: everything else.
    """

    text: float
    fixed: float = 0.0


def weigh_text(*texts: str) -> float:
    """Tokens of the joined `texts` at factor 1."""
    return _worth(_counted(texts))


def _counted(texts: Sequence[str]) -> tuple[int, ...]:
    """The bytes of `texts` in each of `_CLASSES`, and the rest."""
    counts = [0] * (len(_CLASSES) + 1)
    for left in _pieces(texts):
        for at, class_ in _ASCII if left.isascii() else _ALL:
            before = len(left)
            if not before:
                break
            left = left.translate(None, class_)
            counts[at] += before - len(left)
        counts[-1] += len(left)
    return tuple(counts)


def _worth(counts: Sequence[int]) -> float:
    """Tokens of texts with these counts at factor 1."""
    kinds = [0, 0, 0]
    weight = 0.0
    for count, (_, worth, kind) in zip(counts[:-1], _CLASSES, strict=True):
        kinds[kind] += count
        weight += count * worth
    weight += counts[-1] * _REST
    lower = counts[0]
    weight += max(0, lower - _WORD * (sum(counts) - lower)) * _LONG_WORDS
    return weight + max(0, kinds[_LETTER] - _RUN * kinds[_BREAK]) * _LONG_RUNS


def _pieces(texts: Sequence[str]) -> Iterator[bytes]:
    """The bytes of `texts` in pieces that limit memory and time per call; short texts are one."""
    if sum(map(len, texts)) < _PIECE:
        yield "".join(texts).encode("utf-8", "surrogatepass")
        return
    gathered: list[str] = []
    left = _PIECE
    for text in texts:
        left -= len(text)
        gathered.append(text)
        if left > 0:
            continue
        joined = "".join(gathered)
        gathered.clear()
        left = _PIECE
        for at in range(0, len(joined), _PIECE):
            yield joined[at : at + _PIECE].encode("utf-8", "surrogatepass")
    yield "".join(gathered).encode("utf-8", "surrogatepass")


def weigh_bytes(size: int) -> Weight:
    """The weight of a body of which only the size is known."""
    return Weight(size * PER_BYTE, _START + _TOOLS)


class TurnsWeight(Struct, frozen=True):
    """The weight of some turns, to be summed. tokens: of their form, which the factor scales.
    counts: of the bytes of their texts, by class."""

    tokens: int = 0
    fixed: int = 0
    counts: tuple[int, ...] = (0,) * (len(_CLASSES) + 1)

    def __add__(self, other: "TurnsWeight") -> "TurnsWeight":
        counts = tuple(map(add, self.counts, other.counts))
        return TurnsWeight(self.tokens + other.tokens, self.fixed + other.fixed, counts)


def weigh_turns(turns: Iterable[Turn], unseen: int = LARGEST_IMAGE) -> TurnsWeight:
    """The weight of turns. unseen: see `weigh`."""
    weigher = _Weigher(unseen)
    weigher.turns(turns)
    return weigher.weight()


def weigh(
    conversation: Conversation, unseen: int = LARGEST_IMAGE, turns: TurnsWeight | None = None
) -> Weight:
    """The weight of a conversation.

    unseen: tokens of a document that only the vendor sees; by default those of a linked image.
    turns: what its turns weigh, if that is known.
    """
    weigher = _Weigher(unseen)
    weigher.fixed = _START
    for text in conversation.system:
        weigher.block(text)
    if conversation.tools:
        weigher.fixed += _TOOLS
        for tool in conversation.tools:
            weigher.tool(tool)
    if conversation.output is not None and conversation.output.schema is not None:
        weigher.json(conversation.output.schema)
    if turns is None:
        weigher.turns(conversation.turns)
    whole = weigher.weight() if turns is None else weigher.weight() + turns
    return Weight(whole.tokens + _worth(whole.counts), whole.fixed)


class _Weigher:
    """Collects the texts and tokens of a conversation."""

    __slots__ = ("fixed", "texts", "tokens", "unseen")

    def __init__(self, unseen: int) -> None:
        self.unseen = unseen
        self.texts: list[str] = []
        self.tokens = 0
        self.fixed = 0

    def weight(self) -> TurnsWeight:
        """That of all that was collected."""
        return TurnsWeight(self.tokens, self.fixed, _counted(self.texts))

    def turns(self, turns: Iterable[Turn]) -> None:
        for turn in turns:
            self.tokens += _TURN
            for block in turn.blocks:
                self.block(block)

    def block(self, block: Block) -> None:
        self.tokens += _BLOCK
        if isinstance(block, Text):
            self.texts.append(block.text)
            if block.citations:
                self.texts += (citation.quoted for citation in block.citations)
        elif isinstance(block, ToolCall):
            self.tokens += _CALL
            self.texts += (block.namespace, block.name, block.arguments)
        elif isinstance(block, ToolResult):
            self.tokens += _CALL
            for part in block.content:
                self.block(part)
        elif isinstance(block, Thinking):
            self.texts.append(block.text)
            if block.signature is not None:
                self.tokens += len(block.signature.data) // _OPAQUE
        elif isinstance(block, Image):
            self.fixed += image_tokens(block.data) if block.data else LARGEST_IMAGE
        elif isinstance(block, Document):
            self.document(block)
        elif isinstance(block, Audio):
            self.fixed += audio_tokens(block.data, block.format)
        else:
            self.texts.append(block.text)

    def document(self, document: Document) -> None:
        self.texts += (document.name, document.context, document.text)
        for part in document.blocks:
            self.block(part)
        if document.data:
            pdf = document.media_type == "application/pdf"
            size = len(document.data) * 3 // 4
            self.fixed += pdf_tokens(document.data) if pdf else file_tokens(size)
        elif document.url or document.file_id:
            self.fixed += self.unseen

    def tool(self, tool: Tool) -> None:
        self.tokens += _TOOL
        self.texts += (tool.namespace, tool.name, tool.description)
        if tool.kind == "hosted":
            self.fixed += _HOSTED
        for described in (tool.schema, tool.format, tool.raw):
            if described is not None:
                self.json(described)

    def json(self, value: object) -> None:
        self.texts.append(_encode(value).decode())


_LEAST = 256
"""Minimum tokens of text of an observation; below, the fixed part dominates."""
_MOST_FIXED = 8
"""Minimum ratio of text to fixed tokens of an observation."""


class Estimator:
    """Token estimates with learned factors. One process, no I/O, no clock.

    models: maximum pairs of model and principal with factors; the least recently used are dropped.
    The texts of a principal decide its factor, see `LearnedFactors`.
    """

    def __init__(self, *, models: int = 1024) -> None:
        self._weights = LearnedFactors(WeightFactor, 1.0, models)
        self._bytes = LearnedFactors(ByteFactor, PER_BYTE, models)

    def for_principal(self, principal: str) -> "Estimates":
        """Estimates for the requests of one principal."""
        return Estimates(self, principal)

    def estimate(self, entry: str, weight: Weight, principal: str = "") -> int:
        """Input tokens of a prompt, cached ones included, for the model's catalog entry."""
        return ceil(weight.text * self._weights.factor(entry, principal) + weight.fixed)

    def learn(self, entry: str, weight: Weight, counted: int, principal: str = "") -> None:
        """Learn from `counted` input tokens of the upstream, cache reads and writes included.

        `counted` must not be an estimate. Short prompts and those of mostly media are ignored.
        """
        if counted > 0 and weight.text >= max(_LEAST, _MOST_FIXED * weight.fixed):
            self._weights.observe(entry, principal, counted / weight.text)

    def estimate_body(self, entry: str, body: bytes, principal: str = "") -> tuple[int, int, bool]:
        """Estimate a request body that is not decoded.

        Returns bytes of text; input tokens, cached ones included; whether it contains media.
        """
        size, fixed, media = len(body), _START, 0
        if body.find(b'"tools"') >= 0:
            fixed += _TOOLS
        if size >= _MEDIA or body.find(b'"http') >= 0:
            _, media_bytes, media = media_in(body)
            size -= media_bytes
        media += body.count(b'"file_id"') * LARGEST_IMAGE
        fixed += media
        text = size * self._bytes.factor(entry, principal)
        most = size * PER_BYTE  # what `least_tokens` can come to
        if text < most:
            text = max(text, least_tokens(body) if size == len(body) else most)
        return size, ceil(text) + fixed, media > 0

    def estimate_weight(
        self, entry: str, weight: BodyWeight, principal: str = ""
    ) -> tuple[int, int, bool]:
        """`estimate_body` of a body whose weight is known (`BodyWeight.measured`)."""
        size = weight.size - weight.media_bytes
        media = weight.media_tokens + weight.file_ids * LARGEST_IMAGE
        fixed = _START + media + (_TOOLS if weight.tools else 0)
        text = size * self._bytes.factor(entry, principal)
        most = size * PER_BYTE
        if text < most:
            text = max(text, most if weight.media_bytes else weight.least)
        return size, ceil(text) + fixed, media > 0

    def learn_bytes(self, entry: str, size: int, counted: int, principal: str = "") -> None:
        """Learn from `counted` input tokens of the upstream for `size` bytes of text.

        Not for a body with media, whose text tokens are unknown.
        """
        if counted > 0 and size >= _LEAST_BYTES:
            self._bytes.observe(entry, principal, counted / size)


class Estimates(Struct, frozen=True, gc=False):
    """An estimator for the requests of one principal."""

    estimator: Estimator
    principal: str

    def estimate(self, entry: str, weight: Weight) -> int:
        """See `Estimator.estimate`."""
        return self.estimator.estimate(entry, weight, self.principal)

    def learn(self, entry: str, weight: Weight, counted: int) -> None:
        """See `Estimator.learn`."""
        self.estimator.learn(entry, weight, counted, self.principal)
