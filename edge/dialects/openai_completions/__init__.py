"""OpenAI Completions, the legacy endpoint: spoken by callers only."""
