"""Tables of models and their prices."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge.config.units import Credits, Duration

from .jobs import JobVendor
from .names import Modality, ModelName, ModelPattern, Positive, TargetName


class PriceConfig(Struct, frozen=True, kw_only=True):
    """Prices in credits per million tokens, as text, unless the field says otherwise."""

    input: Annotated[Credits, Meta(description="Input tokens that no prompt cache holds.")] = (
        Credits(0)
    )
    output: Annotated[Credits, Meta(description="Output tokens.")] = Credits(0)
    cache_read: Annotated[
        Credits | None,
        Meta(description="Input tokens read from a prompt cache; the price of input unless given."),
    ] = None
    cache_write: Annotated[
        Credits | None,
        Meta(
            description="Input tokens written to a prompt cache; the price of input unless given."
        ),
    ] = None
    cache_write_1h: Annotated[
        Credits | None,
        Meta(
            description="Input tokens written to a prompt cache for one hour; twice the price of "
            "input unless given."
        ),
    ] = None
    image: Annotated[Credits | None, Meta(description="Per image produced.")] = None
    audio_minute: Annotated[Credits | None, Meta(description="Per minute of audio.")] = None
    character: Annotated[
        Credits | None, Meta(description="Per character (code point) of text that is spoken.")
    ] = None
    job: Annotated[Credits | None, Meta(description="Per video or music job.")] = None
    second: Annotated[
        Credits | None, Meta(description="Per second of video or music that a job makes.")
    ] = None
    upstream_cost: Annotated[
        Credits | None,
        Meta(
            description="Credits per dollar that the upstream reports as the cost of a job "
            "(`usage.cost`), in place of `job` and `second`. These bound it, as they are what a "
            "job reserves."
        ),
    ] = None
    hosted_call: Annotated[
        Credits | None,
        Meta(
            description="Per call of a tool that the vendor runs (web search, file search, code), "
            "as its answers count them."
        ),
    ] = None
    tiers: Annotated[
        dict[str, Credits],
        Meta(
            description="Factors on the token prices by service tier, speed or place, as text: { "
            'priority = "2.0", flex = "0.5", fast = "6.0", us = "1.1" }. A request for one that '
            "may be dearer and has no factor here is refused."
        ),
    ] = {}


class ModelConfig(Struct, frozen=True, kw_only=True):
    """A model as clients see it."""

    id: Annotated[
        ModelPattern,
        Meta(
            description="Name that clients write. A `*` at its end offers every name with that "
            "beginning, except those of entries without one, in any case and with any prefix or "
            "suffix.",
        ),
    ]
    aliases: Annotated[
        tuple[ModelName, ...],
        Meta(description="Additional names of the same model."),
    ] = ()
    display_name: Annotated[
        str,
        Meta(
            description="Name for people, shown in /v1/models. The id unless given.",
            extra={"renamed_from": "name"},
        ),
    ] = ""
    created: Annotated[
        int, Meta(ge=0, description="Unix time shown as `created` in /v1/models.")
    ] = 1_735_689_600
    context: Annotated[
        Positive | None,
        Meta(
            description="Context window in tokens, shown in /v1/models. A request whose whole "
            "input only the upstream sees reserves this many; 200,000 unless given."
        ),
    ] = None
    max_output: Annotated[
        Positive | None,
        Meta(
            description="Most output tokens, shown in /v1/models. Bounds what a request reserves: "
            "the price of this many, or of 32,000 where neither this nor the request sets a bound."
        ),
    ] = None
    modalities: Annotated[
        tuple[Modality, ...] | None,
        Meta(
            description="What the model takes as input. Media that are not in it become text "
            "(`media`) or are refused. Unless given, /v1/models says `text`, and media are sent as "
            "they are where `media` has no model for them."
        ),
    ] = None
    output_modalities: Annotated[
        tuple[Modality, ...],
        Meta(description="What the model produces.", extra={"renamed_from": "output"}),
    ] = ("text",)
    targets: Annotated[
        tuple[TargetName, ...],
        Meta(
            min_length=1,
            description='Where the model is served, best first: "upstream/its-model-name". In an '
            "id that ends in `*`, a `*` at the end of a target stands for the name that the "
            "client wrote.",
        ),
    ]
    family: Annotated[
        ModelName | None,
        Meta(
            description="A vendor's model name that says what the targets are, where their own "
            'names do not: an Azure deployment called `prod` may be a "gpt-5". Requests are '
            "written as that model takes them. Their own names unless given."
        ),
    ] = None
    families: Annotated[
        tuple[ModelName, ...],
        Meta(description="The same for targets that differ: one name for each target."),
    ] = ()
    load_balancing: Annotated[
        Literal["order", "weight", "least_inflight", "latency"],
        Meta(
            description='Which target is tried first: "order", as written; "weight", at random by '
            '`weights`; "least_inflight", the one with the fewest requests in flight; "latency", '
            "the one whose answers begin soonest. A conversation stays with the target that "
            "answered it last.",
            extra={"renamed_from": "balance"},
        ),
    ] = "order"
    weights: Annotated[
        tuple[Positive, ...],
        Meta(
            description="Shares of the targets, one number for each, for `load_balancing = "
            '"weight"`. Equal unless given.'
        ),
    ] = ()
    fallbacks: Annotated[
        tuple[str, ...],
        Meta(
            description="Models to try when every target has failed, if the key may use them. A "
            "caller's own `models` replace them."
        ),
    ] = ()
    embeddings: Annotated[
        str | None,
        Meta(
            description="Model that answers /v1/embeddings under this name, at its own price. "
            "Keys need to be allowed this model only."
        ),
    ] = None
    drop_params: Annotated[
        tuple[str, ...],
        Meta(
            description="Members of requests that its targets refuse, which are left out: "
            '["response_format"] for image models that always answer base64.'
        ),
    ] = ()
    voices: Annotated[
        tuple[str, ...],
        Meta(
            description="Voices of a speech model, shown in /v1/audio/voices. A request may name "
            "any other."
        ),
    ] = ()
    price: Annotated[
        PriceConfig | None, Meta(description="What the model costs the caller. Free unless given.")
    ] = None
    jobs: Annotated[
        JobVendor | None,
        Meta(
            description="How its targets take video and music jobs, in place of what their "
            "upstreams say (`upstreams[].jobs`)."
        ),
    ] = None
    job_members: Annotated[
        tuple[str, ...],
        Meta(
            description="Further members of a job's request that its targets get under their own "
            "name. All others that the gateway does not know are refused."
        ),
    ] = ()
    on_hangup: Annotated[
        Literal["cancel", "drain"] | None,
        Meta(
            description="What is done when a client disconnects, in place of what its plan says. "
            'Set "drain" for models with hidden reasoning, which cannot be estimated.'
        ),
    ] = None
    plans: Annotated[
        tuple[str, ...], Meta(description="Plans whose keys may use the model. All unless given.")
    ] = ()
    internal: Annotated[
        bool,
        Meta(
            description="Callers cannot name the model, and no list shows it. The gateway itself "
            "uses it: to describe media (`media`), for `embeddings` of another model, as a "
            "fallback."
        ),
    ] = False


class ImagesConfig(Struct, frozen=True, kw_only=True):
    """Images that models make."""

    urls: Annotated[
        Literal["gateway", "provider"],
        Meta(
            description='What `response_format = "url"` answers: "gateway", a signed link of this '
            'gateway that anybody can open for an hour; "provider", the link of the provider, '
            "which names it."
        ),
    ] = "gateway"


class MediaConfig(Struct, frozen=True, kw_only=True):
    """Models that turn media into text for models that do not take them."""

    image: Annotated[
        str | None,
        Meta(description="Model that describes images. Its `modalities` must have `image`."),
    ] = None
    audio: Annotated[
        str | None,
        Meta(description="Model that transcribes audio. Its `modalities` must have `audio`."),
    ] = None
    video: Annotated[
        str | None,
        Meta(
            description="Model that describes video. Its `modalities` must have `video`, and it "
            "gets the file; or `image`, and it gets frames, while `audio` transcribes the sound."
        ),
    ] = None
    document: Annotated[
        str | None,
        Meta(
            description="Model that reads scanned pages of PDF files. Its `modalities` must have "
            "`image`. `image` unless given. Pages with text need no model."
        ),
    ] = None
    on_error: Annotated[
        Literal["refuse", "note"],
        Meta(
            description="What is done when media of the last turn cannot be described: the "
            'request is refused with a 503 ("refuse"), or a note says that they could not be read '
            '("note"). For older media it is always a note.'
        ),
    ] = "refuse"
    cache: Annotated[
        Duration,
        Meta(
            description="How long a description is used again, for its own key only. Not more "
            "than 5,000 are kept for a key."
        ),
    ] = Duration(30 * 86400)
    max_new: Annotated[
        Positive,
        Meta(
            description="Most media that one request has described; for older ones beyond, a note "
            "says that they could not be read."
        ),
    ] = 20
    timeout: Annotated[
        Duration,
        Meta(description="Longest time for the descriptions of one request."),
    ] = Duration(60)
