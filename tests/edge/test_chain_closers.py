"""`compose` collects what closes the layers, and enters each in its own way; nothing walks from app
to app."""

from typing import Any, cast

from edge.chain import Layer, Parts, compose
from middlewares import RequestIDMiddleware
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from tests.asgi import request

PARTS = cast("Parts", None)


async def bottom(scope: Scope, receive: Receive, send: Send) -> None: ...


class Closable:
    """A layer that keeps its inner app to itself."""

    def __init__(self, name: str, app: ASGIApp, closed: list[str]) -> None:
        self._name = name
        self._inner = app
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._inner(scope, receive, send)

    async def aclose(self) -> None:
        self._closed.append(self._name)


def wrapped(app: ASGIApp) -> ASGIApp:
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return plain


async def test_chain_aclose_closes_each_layer_once_outermost_first() -> None:
    closed: list[str] = []

    def closable(name: str) -> Layer:
        return Layer(name, "", lambda app, _: Closable(name, app, closed))

    layers = (
        closable("outer"),
        Layer("plain", "", lambda app, _: wrapped(app)),
        Layer("off", "", lambda app, _: app),
        closable("inner"),
    )
    composed = compose(bottom, PARTS, layers)
    await composed.aclose()
    assert closed == ["outer", "inner"]


async def test_chain_aclose_leaves_the_app_inside_to_its_owner() -> None:
    closed: list[Any] = []
    app = Closable("app", bottom, closed)
    composed = compose(app, PARTS, (Layer("off", "", lambda app, _: app),))
    await composed.aclose()
    assert (composed.app, closed) == (app, [])


class Refusing(RequestIDMiddleware):
    """A layer with a check of its own before the layer that it extends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_compose_calls_a_layer_that_overrides_the_call_of_another() -> None:
    composed = compose(bottom, PARTS, (Layer("refusing", "", lambda app, _: Refusing(app)),))
    assert (await request(composed.app, "GET", "/")).status == 403
