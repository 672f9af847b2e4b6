"""Upstreams over httpx: HTTP/2 and proxies, and httpx over our pools."""
