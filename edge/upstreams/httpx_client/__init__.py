"""Upstreams over httpx (HTTP/2, proxies), and an httpx transport over the native pools."""
