"""The tables of a configuration file: one struct for each table, one field for each setting.

The description of a field is the user manual: the reference page, `penstock schema` and editors
show it. What else a field says in `extra` is listed in `edge.config.fields`. Loading is in
`edge.config.load`, checks of several fields are in `edge.config.validate`.
"""

from typing import Annotated

from msgspec import Meta, Struct

from .access import AuthConfig, LimitsConfig
from .alerts import AlertsConfig
from .audio import AudioConfig
from .dashboard import DashboardConfig
from .errors import ErrorKindConfig, ErrorsConfig
from .fetch import FetchConfig
from .files import FilesConfig
from .jobs import JobsConfig, JobVendor
from .landing import LandingConfig
from .models import ImagesConfig, MediaConfig, ModelConfig, PriceConfig
from .names import OfferedName
from .oidc import AutoCreateConfig, OidcConfig
from .plans import AllowanceConfig, PlanConfig, WindowConfig
from .resilience import AffinityConfig, BreakerConfig, FallbackConfig
from .server import LogConfig, RouteConfig, ServerConfig
from .store import StoreConfig
from .tracing import TracingConfig
from .upstreams import UpstreamConfig

__all__ = [
    "AffinityConfig",
    "AlertsConfig",
    "AllowanceConfig",
    "AudioConfig",
    "AuthConfig",
    "AutoCreateConfig",
    "BreakerConfig",
    "Configuration",
    "DashboardConfig",
    "ErrorKindConfig",
    "ErrorsConfig",
    "FallbackConfig",
    "FetchConfig",
    "FilesConfig",
    "ImagesConfig",
    "JobVendor",
    "JobsConfig",
    "LandingConfig",
    "LimitsConfig",
    "LogConfig",
    "MediaConfig",
    "ModelConfig",
    "OidcConfig",
    "PlanConfig",
    "PriceConfig",
    "RouteConfig",
    "ServerConfig",
    "StoreConfig",
    "TracingConfig",
    "UpstreamConfig",
    "WindowConfig",
]


class Configuration(Struct, frozen=True, kw_only=True):
    """A configuration file of Penstock."""

    brand: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=60,
            description="Product name in public messages, and the stem of key and model prefixes: "
            '"My Edge" makes "my-edge".',
        ),
    ] = "Penstock"
    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    auth: AuthConfig = AuthConfig()
    limits: LimitsConfig = LimitsConfig()
    dashboard: DashboardConfig = DashboardConfig()
    landing: LandingConfig = LandingConfig()
    plans: tuple[PlanConfig, ...] = ()
    alerts: AlertsConfig = AlertsConfig()
    upstreams: tuple[UpstreamConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()
    fallback: FallbackConfig = FallbackConfig()
    breaker: BreakerConfig = BreakerConfig()
    affinity: AffinityConfig = AffinityConfig()
    media: MediaConfig = MediaConfig()
    images: ImagesConfig = ImagesConfig()
    jobs: JobsConfig = JobsConfig()
    files: FilesConfig = FilesConfig()
    fetch: FetchConfig = FetchConfig()
    audio: AudioConfig = AudioConfig()
    routes: tuple[RouteConfig, ...] = ()
    endpoints: Annotated[
        tuple[OfferedName, ...],
        Meta(
            min_length=1,
            description="Endpoints that this gateway offers, by the names that keys have them by; "
            "all unless given. The others answer as unknown paths do.",
        ),
    ] = ()
    errors: ErrorsConfig = ErrorsConfig()
    log: LogConfig = LogConfig()
    tracing: TracingConfig = TracingConfig()
