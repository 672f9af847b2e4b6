"""How many tokens a prompt has, without a tokenizer: cheap, and rather too many than too few.

Theory of operation. A prompt is weighed, which knows nothing of models; an estimate is its weight
by a factor learnt for the model.

    size       of a body that is passed on unread only the bytes are known. Media in it are found by
               their form and weighed apart; the rest has a factor of its own, tokens per byte,
               but digits, signs and all that is not English always count for more than letters.
    weigh      UTF-8 bytes fall into classes (small letters, digits, kana, ...), each worth so many
               tokens. What tells one text from another is how long letters run between other
               bytes: English words are short and stand whole in every vocabulary, those of other
               languages come in pieces, and base64 has no words at all. One `bytes.translate` a
               class, over what the classes before it have left: 4 ms for a megabyte, 7 us for 1 KB.
    fixed      what vendors put before turns and around tools, and media: from published figures,
               those of the dearest vendor. Not scaled.
    factor     of the last 128 observations (tokens the upstream counted, over the weight of the
               text), the 96th percentile and 5 % more, within bounds. It is 1 at the start, and
               cannot fall below that before 25 observations have come.
    principal  each has factors of its own, learnt from its own texts: no key's odd texts lower, or
               raise, what is set aside for another's. A new one begins with the median of all.

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

from collections.abc import Iterator, Sequence
from math import ceil
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
)

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
"""Bytes, tokens for each of them, kind. The commonest first: each pass is over what is left."""
_REST = 1.0  # a control character
_WORD, _LONG_WORDS = 3, 0.45
"""Small letters beyond so many for every other byte are worth so much more each."""
_RUN, _LONG_RUNS = 10, 0.2
"""Letters and digits beyond so many for every break are worth so much more each."""

_START = 36  # a prompt of one turn; a chat template may have words of its own
_TURN = 8
_BLOCK = 4
_CALL = 16
_TOOL = 16
_TOOLS = 700  # Anthropic: what it tells the model about tools
_HOSTED = 2500  # the vendor's own description of a tool it runs
_OPAQUE = 4  # characters of sealed thinking that hide a token, at the least

UNSEEN = file_tokens(1 << 20)
"""Tokens of a document which only its vendor sees, where no fewer may be said than there are."""
_COMMON = (ascii_lowercase + " ").encode()
_LEAST_COMMON, _LEAST_OTHER = 0.2, PER_BYTE
"""Tokens for a byte at the least, of small letters and spaces, and of all else."""
_LEAST_WORD, _LEAST_LONG_WORDS = 6, 0.3
"""Small letters beyond so many for every other byte are no words: so much more each."""
_LEAST_BYTES = 1024
_MEDIA = 4096
"""Bytes of body below which no media are looked for."""

_PIECE = 1 << 20
"""Characters, or bytes, that are counted in one call."""

_encode = msgspec.json.Encoder().encode


class Weight(Struct, frozen=True):
    """How much a prompt is, in tokens of the most sparing vocabulary.

    text: of text, tools and turns, which a model's factor scales. fixed: of what it does not.
    """

    text: float
    fixed: float = 0.0


def weigh_text(*texts: str) -> float:
    """Tokens of `texts`, one behind the other, at factor 1."""
    size = lower = 0
    kinds = [0, 0, 0]
    weight = 0.0
    for left in _pieces(texts):
        size += len(left)
        first = True
        for class_, worth, kind in _CLASSES:
            before = len(left)
            if not before:
                break
            left = left.translate(None, class_)
            count = before - len(left)
            if first:
                lower += count
                first = False
            kinds[kind] += count
            weight += count * worth
        weight += len(left) * _REST
    weight += max(0, lower - _WORD * (size - lower)) * _LONG_WORDS
    return weight + max(0, kinds[_LETTER] - _RUN * kinds[_BREAK]) * _LONG_RUNS


def _pieces(texts: Sequence[str]) -> Iterator[bytes]:
    """The bytes of `texts`, no more at once than may be held beside them, and counted in one call.
    Of few it is one piece."""
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
    """The weight of a request of which only the bytes of its body are known."""
    return Weight(size * PER_BYTE, _START + _TOOLS)


def weigh(conversation: Conversation, unseen: int = LARGEST_IMAGE) -> Weight:
    """The weight of what a caller asks. unseen: tokens that a document counts as which only its
    vendor will see; usually as a linked picture does in a body of which only the bytes are known.
    """
    weigher = _Weigher(unseen)
    weigher.fixed = _START
    for text in conversation.system:
        weigher.block(text)
    for turn in conversation.turns:
        weigher.tokens += _TURN
        for block in turn.blocks:
            weigher.block(block)
    if conversation.tools:
        weigher.fixed += _TOOLS
        for tool in conversation.tools:
            weigher.tool(tool)
    if conversation.output is not None and conversation.output.schema is not None:
        weigher.json(conversation.output.schema)
    return Weight(weigher.tokens + weigh_text(*weigher.texts), weigher.fixed)


class _Weigher:
    """Texts and tokens as they are put on."""

    __slots__ = ("fixed", "texts", "tokens", "unseen")

    def __init__(self, unseen: int) -> None:
        self.unseen = unseen
        self.texts: list[str] = []
        self.tokens = 0
        self.fixed = 0

    def block(self, block: Block) -> None:
        self.tokens += _BLOCK
        match block:
            case Text():
                self.texts.append(block.text)
                self.texts += (citation.quoted for citation in block.citations)
            case ToolCall():
                self.tokens += _CALL
                self.texts += (block.namespace, block.name, block.arguments)
            case ToolResult():
                self.tokens += _CALL
                for part in block.content:
                    self.block(part)
            case Thinking():
                self.texts.append(block.text)
                if block.signature is not None:
                    self.tokens += len(block.signature.data) // _OPAQUE
            case Image():
                self.fixed += image_tokens(block.data) if block.data else LARGEST_IMAGE
            case Document():
                self.document(block)
            case Audio():
                self.fixed += audio_tokens(block.data, block.format)
            case _:
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
"""Tokens of text below which an observation tells more of what stands around it."""
_MOST_FIXED = 8
"""The text must weigh so many times what is not text."""


class Estimator:
    """Estimates for each model, and what was learnt of it. One process, no I/O, no clock.

    models: most pairs of a model and a principal it knows anything of; those longest unheard of
    are forgotten. Where a principal can be named its own texts decide, see `LearnedFactors`.
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
        """The upstream has counted `counted` input tokens, cache reads and writes included.

        Never give it an estimate. Prompts that are mostly media, or short, teach nothing.
        """
        if counted > 0 and weight.text >= max(_LEAST, _MOST_FIXED * weight.fixed):
            self._weights.observe(entry, principal, counted / weight.text)

    def estimate_body(self, entry: str, body: bytes, principal: str = "") -> tuple[int, int, bool]:
        """Bytes of text in a request's body; its input tokens, cached ones included; and whether
        there are media in it.
        """
        size, fixed, media = len(body), _START, 0
        if body.find(b'"tools"') >= 0:
            fixed += _TOOLS
        if size >= _MEDIA or body.find(b'"http') >= 0:
            media_bytes, media = media_in(body)
            size -= media_bytes
        media += body.count(b'"file_id"') * LARGEST_IMAGE
        fixed += media
        text = size * self._bytes.factor(entry, principal)
        most = size * PER_BYTE  # what `_least` can come to
        if text < most:
            text = max(text, _least(body) if size == len(body) else most)
        return size, ceil(text) + fixed, media > 0

    def learn_bytes(self, entry: str, size: int, counted: int, principal: str = "") -> None:
        """The upstream has counted `counted` input tokens for a body of `size` bytes of text.

        Not for one with media: nobody knows how many of its tokens are text.
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


def _least(body: bytes) -> float:
    """Tokens of text at the least, whatever was learnt: what one text has taught must not make the
    next one cheap to set aside. Not more than `PER_BYTE` for each byte."""
    size = len(body)
    other = 0
    for at in range(0, size, _PIECE):
        piece = body if size <= _PIECE else body[at : at + _PIECE]
        other += len(piece.translate(None, _COMMON))
    spaces = body.count(b" ")
    letters = size - other - spaces
    least = (size - other) * _LEAST_COMMON + other * _LEAST_OTHER
    return least + max(0, letters - _LEAST_WORD * (other + spaces)) * _LEAST_LONG_WORDS
