"""The guarded fetcher: the only code that opens a URL which a client or an upstream has given."""
