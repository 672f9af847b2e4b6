"""Traces of requests: W3C trace context in and out, and OpenTelemetry spans made at the end."""
