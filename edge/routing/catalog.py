"""Model catalog: look up models by name.

A name is an id or an alias, with or without the brand's prefix (`penstock/sim-1`). It may end in
`[1m]`, by which coding clients request a long context. Exact names are one dict look-up. Other
names are matched with the few ids that end in `*`, longest first, unless they are a variant of an
exact name that servers treat as equal (letter case, repeated suffixes and prefixes, percent
escapes; see `_is_exact`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from edge.config.load import Settings
from edge.config.model import ModelConfig, PriceConfig
from edge.dialects.codec import TargetModel
from middlewares.exchange import Candidate, Principal, Target
from middlewares.limits import OnHangup
from middlewares.pricing import Price

LONG_CONTEXT = "[1m]"
_LONGEST_NAME = 200
_FORBIDDEN = frozenset(' "\\*' + "?&;,!|'`(){}<>=^$")
"""Characters that no vendor uses in a name, and that may end it within a URL."""
_SUFFIXES = (
    LONG_CONTEXT,
    *(":latest", ":default", "@latest", "@default"),
    *(":nitro", ":floor", ":online", ":exacto", ":extended", ":thinking", ":free", ":beta"),
)
"""Suffixes that leave the model unchanged: ours, the defaults of Ollama and Vertex AI, and the
variants of OpenRouter."""
_BRACKET = re.compile(r"\[[^\[\]]*\]$")
_BETWEEN = re.compile(r"/(?:\.?/)+|(?:^|/)[^/]+/\.\./")
"""Path segments that servers normalize to one slash."""
_PREFIXES = ("models/",)
"""Prefixes of Gemini's resource names. The brand and names of upstreams are added."""
_EDGES = "./:@\0\t\n\r "
"""Characters that lenient servers strip from both ends."""
_ENDINGS = (*_SUFFIXES, *_EDGES, "]")
_MARKS = frozenset(("%", "#", "//", "/."))
"""Substrings of all other variants."""


Balance = Literal["order", "weight", "least_inflight", "latency"]
"""See `ModelConfig.load_balancing`."""


class ModelCandidate(Candidate, frozen=True, kw_only=True):
    """A target of a model, with the facts of the model that an attempt needs.

    entry, prices: as in `Model`. model: the model at the target.
    """

    entry: str
    model: TargetModel
    prices: Price | None


class Model(msgspec.Struct, frozen=True):
    """A catalog entry.

    id: what clients see. For an entry whose id ends in `*` it is the name the client wrote, less
        prefix and `[1m]`; it is then safe in headers, but unbounded in number.
    entry: the id as configured: use it for metric labels.
    names: every name an allow-list may call it by.
    families: model family of each target; () if their names are the families.
    candidates: its targets as candidates, in the order of the configuration.
    price: nano-credits as configured (see `PriceConfig`), None when it costs nothing.
    prices: the same, ready to count with. None when it costs nothing.
    on_hangup: in candidate of the plan's, None where that decides.
    added: members that upstreams of its targets put into bodies (`extra_body`).
    embedder: the model that makes embeddings under its name, as `id` says it; None is itself.
    internal: whether it is for requests of the gateway itself; no caller may name it.
    """

    id: str
    entry: str
    display_name: str
    names: frozenset[str]
    aliases: tuple[str, ...]
    context: int | None
    max_output: int | None
    modalities: tuple[str, ...]
    output: tuple[str, ...]
    targets: tuple[Target, ...]
    families: tuple[str, ...]
    candidates: tuple[ModelCandidate, ...]
    balance: Balance
    weights: tuple[int, ...]
    fallbacks: tuple[str, ...]
    plans: frozenset[str]
    price: PriceConfig | None
    prices: Price | None
    on_hangup: OnHangup | None
    created: int
    added: Mapping[str, msgspec.Raw] = {}
    voices: tuple[str, ...] = ()
    embedder: "Model | None" = None
    internal: bool = False

    def family_of(self, target: Target) -> str:
        """The model family of `target`, one of its targets."""
        if not self.families:
            return target.model
        return self.families[self.targets.index(target)]


class Catalog:
    """All models of one configuration. Immutable.

    offered: whether callers can list the models.
    """

    __slots__ = ("_exact", "_listed", "_lower", "_prefix", "_prefixes", "_wild", "offered")

    def __init__(
        self,
        exact: Mapping[str, Model],
        wild: Iterable[Model],
        prefix: str,
        upstreams: Iterable[str] = (),
        *,
        offered: bool = True,
    ) -> None:
        self.offered = offered
        self._exact = exact
        self._lower = frozenset(name.lower().strip(_EDGES) for name in exact)
        self._wild = tuple(sorted(wild, key=lambda model: -len(model.entry)))
        self._prefix = prefix
        named = (f"{name.lower()}/" for name in upstreams)
        self._prefixes = (prefix.lower(), *_PREFIXES, *named, *_EDGES)
        self._listed = tuple({model.id: model for model in exact.values()}.values())

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """The catalog of `settings`, in the order of the configuration."""
        prefix = f"{settings.slug}/"
        exact: dict[str, Model] = {}
        wild: list[Model] = []
        extra = {upstream.name: upstream.extra_body for upstream in settings.upstreams}
        for option in settings.models:
            model = _model(option, extra)
            if option.id.endswith("*"):
                wild.append(model)
            else:
                exact.update(dict.fromkeys((model.id, *model.aliases), model))
        for option in settings.models:
            if option.embeddings is not None and option.id in exact:
                model = _with_embedder(exact[option.id], exact[option.embeddings])
                exact.update(dict.fromkeys((model.id, *model.aliases), model))
        for name, model in list(exact.items()):
            exact.setdefault(prefix + name, model)
        return cls(exact, wild, prefix, extra, offered="models" in settings.offered)

    def find(self, name: str) -> Model | None:
        """The model with the name `name`, or None."""
        model = self._exact.get(name)
        if model is None and name.endswith(LONG_CONTEXT):
            name = name[: -len(LONG_CONTEXT)]
            model = self._exact.get(name)
        if model is None and self._wild:
            model = self._match(name.removeprefix(self._prefix))
        return model

    def _match(self, name: str) -> Model | None:
        # The name goes into headers, logs and bodies: only characters of configured ids pass.
        if len(name) > _LONGEST_NAME or not name.isascii() or not name.isprintable():
            return None
        if not _FORBIDDEN.isdisjoint(name):
            return None
        for model in self._wild:
            if name.startswith(model.entry[:-1]):
                if self._is_exact(name, model.entry[:-1]):
                    return None
                targets = tuple(_named(target, name) for target in model.targets)
                return replace(
                    model,
                    id=name,
                    display_name=name,
                    targets=targets,
                    candidates=tuple(
                        replace(
                            candidate,
                            target=target,
                            served=name,
                            model=replace(candidate.model, model=target.model, family=family),
                        )
                        for candidate, target, family in zip(
                            model.candidates,
                            targets,
                            model.families or _names(targets),
                            strict=True,
                        )
                    ),
                )
        return None

    def _is_exact(self, name: str, stem: str) -> bool:
        """Whether `name` is a variant of an exact entry.

        Such a name must not bypass that entry's price, plans and allow-lists. stem: the beginning
        of the entry that would match; a prefix in it is part of the name.
        """
        name = name.lower()
        if not (
            name.startswith(self._prefixes)
            or name.endswith(_ENDINGS)
            or any(mark in name for mark in _MARKS)
        ):
            return name in self._lower  # the usual case: no prefix or suffix
        stem = stem.lower()
        prefixes = [prefix for prefix in self._prefixes if not stem.startswith(prefix)]
        while name not in self._lower:
            less = _undressed(name, prefixes)
            if less == name:
                return False
            name = less
        return True

    def grant(self, name: str) -> str | None:
        """The allow-list name for `name`: an id, or an entry that ends in `*`."""
        if any(model.entry == name for model in self._wild):
            return name
        model = self.find(name)
        return None if model is None else model.id

    def allows(self, principal: Principal, model: Model) -> bool:
        """Whether `principal` may use `model`: by its own allow-list and by the model's plans."""
        if model.plans and principal.plan not in model.plans:
            return False
        allowed = principal.models
        return allowed is None or model.id in allowed or not allowed.isdisjoint(model.names)

    def visible(self, principal: Principal) -> list[Model]:
        """The models to list for `principal`, in the order of the configuration.

        Entries whose id ends in `*` match any number of names and are not listed.
        """
        return [
            model for model in self._listed if not model.internal and self.allows(principal, model)
        ]


def _undressed(name: str, prefixes: Iterable[str]) -> str:
    """`name` in lower case without its outermost prefix, suffix or escape, if it has one."""
    if "%" in name and (less := unquote(name).lower()) != name:
        return less
    less = _BETWEEN.sub("/", name.partition("#")[0]).strip(_EDGES)
    if less != name:
        return less
    for prefix in prefixes:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return _BRACKET.sub("", name)


def _model(option: ModelConfig, extra: Mapping[str, Mapping[str, Any]]) -> Model:
    prices = None if option.price is None else _prices(option.price)
    targets = tuple(Target(*target.split("/", 1)) for target in option.targets)
    families = _families(option)
    return Model(
        id=option.id,
        entry=option.id,
        display_name=option.display_name or option.id,
        names=frozenset({option.id, *option.aliases}),
        aliases=option.aliases,
        context=option.context,
        max_output=option.max_output,
        modalities=option.modalities or ("text",),
        output=option.output_modalities,
        targets=targets,
        families=families,
        candidates=tuple(
            ModelCandidate(
                target,
                option.id,
                entry=option.id,
                model=TargetModel(
                    model=target.model,
                    family=family,
                    context=option.context,
                    max_output=option.max_output,
                    drop_params=frozenset(name.casefold() for name in option.drop_params),
                    modalities=None if option.modalities is None else frozenset(option.modalities),
                ),
                prices=prices,
            )
            for target, family in zip(targets, families or _names(targets), strict=True)
        ),
        balance=option.load_balancing,
        weights=option.weights or (1,) * len(targets),
        fallbacks=option.fallbacks,
        plans=frozenset(option.plans),
        price=option.price,
        prices=prices,
        on_hangup=option.on_hangup,
        created=option.created,
        voices=option.voices,
        internal=option.internal,
        added={
            name: msgspec.Raw(msgspec.json.encode(value))
            for upstream in sorted({target.upstream for target in targets})
            for name, value in extra.get(upstream, {}).items()
        },
    )


def _with_embedder(model: Model, embedder: Model) -> Model:
    """`model` with `embedder` under its name."""
    candidates = tuple(replace(one, served=model.id) for one in embedder.candidates)
    return replace(model, embedder=replace(embedder, id=model.id, candidates=candidates))


def _families(option: ModelConfig) -> tuple[str, ...]:
    return option.families if option.family is None else (option.family,) * len(option.targets)


def _names(targets: Iterable[Target]) -> tuple[str, ...]:
    return tuple(target.model for target in targets)


def _prices(price: PriceConfig) -> Price:
    return Price(
        input=price.input,
        output=price.output,
        cache_read=price.input if price.cache_read is None else price.cache_read,
        cache_write=price.input if price.cache_write is None else price.cache_write,
        image=price.image or 0,
        audio_minute=price.audio_minute or 0,
        job=price.job or 0,
        cache_write_1h=2 * price.input if price.cache_write_1h is None else price.cache_write_1h,
        hosted_call=price.hosted_call or 0,
        character=price.character or 0,
        second=price.second or 0,
        factors=dict(price.tiers),
    )


def _named(target: Target, name: str) -> Target:
    if not target.model.endswith("*"):
        return target
    return Target(target.upstream, target.model[:-1] + name)
