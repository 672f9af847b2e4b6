"""Builds the media steps of a configuration."""

from edge.config.model import MediaConfig
from edge.media.decode.sandbox import Sandbox
from edge.media.part import MediaKind
from edge.proxy.subrequests import Subrequests
from edge.routing.catalog import Catalog, Model
from middlewares.metrics.metrics import Metrics
from middlewares.stores.descriptions.base import DescriptionStore

from .cache import DescriptionCache
from .describers import Describers
from .sources import MediaSources
from .steps import DescribingSlots, DescribingSteps
from .texts import TextMaker


def media_steps(
    media: MediaConfig,
    catalog: Catalog,
    subrequests: Subrequests,
    *,
    sandbox: Sandbox,
    store: DescriptionStore | None,
    slots: DescribingSlots,
    metrics: Metrics,
    sources: MediaSources | None = None,
) -> DescribingSteps:
    """The media steps with the describers of `media`. slots: of the worker."""
    names: dict[MediaKind, str | None] = {
        "image": media.image,
        "audio": media.audio,
        "video": media.video,
        "document": media.document,
    }
    models: dict[MediaKind, Model] = {}
    for kind, name in names.items():
        model = None if name is None else catalog.find(name)
        if model is not None:
            models[kind] = model
    describers = Describers(subrequests, models)
    return DescribingSteps(
        describers,
        TextMaker(describers, sandbox),
        DescriptionCache(store),
        slots,
        metrics,
        sources=sources,
        on_error=media.on_error,
        max_new=media.max_new,
        timeout=media.timeout,
    )
