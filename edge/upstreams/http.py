"""Choose the HTTP client of an upstream: native HTTP/1.1, or httpx for HTTP/2 and proxies."""

import importlib.util
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import httpx

from edge.upstreams import Upstream
from edge.upstreams.http1.dial import OPTIONS
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.http1.pools import Pools
from edge.upstreams.http1.transport import Transport
from edge.upstreams.httpx_client.network import Network
from edge.upstreams.httpx_client.pooled import PooledHTTPTransport
from edge.upstreams.httpx_client.upstream import HttpxUpstream
from middlewares.dns import Lookup, lookup

from .tls import tls_context

__all__ = ["HTTP2", "HttpxUpstream", "PooledHTTPTransport", "upstream_for"]

HTTP2 = importlib.util.find_spec("h2") is not None
"""Whether httpx can speak HTTP/2 here (the `http2` extra is installed)."""


def upstream_for(
    base_url: str,
    *,
    limits: PoolLimits | None = None,
    transport: Literal["native", "httpx"] = "native",
    ca: str | Path | None = None,
    client_cert: str | Path | None = None,
    client_key: str | Path | None = None,
    proxy: str | None = None,
    tls: Callable[..., ssl.SSLContext] = tls_context,
    repeat: bool = True,
    lookup: Lookup = lookup,
    pools: Pools | None = None,
) -> Upstream:
    """The upstream for the origin of `base_url`, whose path is ignored. Opens no connection.

    ca, client_cert, client_key: PEM files, see `tls_context`.
    proxy: URL of an HTTP proxy; only with `transport="httpx"`.
    tls: builds the context from the arguments of `tls_context`.
    repeat, lookup, pools: see `Transport`.

    Raises ValueError for a file that cannot be read and for arguments that do not fit together.
    """
    limits = limits or PoolLimits()
    if transport == "native":
        if proxy is not None:
            raise ValueError('`proxy` needs transport = "httpx", got "native"')
        context = None
        if base_url.lower().startswith("https:"):
            context = tls(ca=ca, client_cert=client_cert, client_key=client_key)
        return Transport(
            base_url, limits=limits, ssl=context, repeat=repeat, lookup=lookup, pools=pools
        )
    if transport != "httpx":
        raise ValueError(f'transport must be "native" or "httpx", got {transport!r}')
    context = tls(
        ca=ca,
        client_cert=client_cert,
        client_key=client_key,
        protocols=("h2", "http/1.1") if HTTP2 else ("http/1.1",),
    )
    inner = httpx.AsyncHTTPTransport(
        verify=context,
        http2=HTTP2,
        proxy=proxy,
        socket_options=OPTIONS,
        limits=httpx.Limits(
            max_connections=limits.connections,
            max_keepalive_connections=limits.connections,
            keepalive_expiry=limits.keepalive,
        ),
    )
    network = Network(lookup, pools)
    inner._pool._network_backend = network  # httpx has no argument for it
    upstream = HttpxUpstream(base_url, inner, limits=limits, network=network, repeat=repeat)
    if pools is not None:
        pools.add(upstream)
    return upstream
