"""Refuse references to objects in the vendor's account: files, stores, containers, skills.

Requests go upstream with the operator's key, so a request that names such an object could reach any
object of the account. The gateway does not know whose object it is, so it refuses every reference,
wherever a vendor reads one. Names are compared as lenient servers do
(`edge.requests.output_limit.plain`).

Sources: OpenAI API reference, `conversation`, `prompt`, tools `file_search`, `code_interpreter`,
`shell`, `mcp`, `image_generation`, parts `file`, `input_file`, `input_image`; Anthropic API
reference, `container`, `container_upload`, file sources, `thread`, `fallbacks`; Azure OpenAI,
`data_sources`; Gemini API, `cached_content`; xAI, `collection_ids`; Mistral, `library_ids`; Z.ai,
`knowledge_id`; OpenRouter, `preset`.
"""

import msgspec

from middlewares.problem import Problem, invalid_value

TOP = frozenset(
    (
        *("conversation", "prompt", "container", "datasources", "thread", "preset"),
        *("assistantid", "threadid", "agentid", "adapterid", "previousinteractionid"),
    )
)
"""Top-level members that may be or hold a reference, in the form of `plain`."""
MODELS = frozenset(("fallbacks", "fallbackmodels", "modelfallbacks", "contextwindowfallbacks"))
"""Top-level members that name models of the upstream to try next, past the catalog and its prices
(Messages API, LiteLLM). They are left out: a caller names other models in `models`."""
PLACES = frozenset(("apibase", "baseurl", "userconfig", "litellmparams", "customllmprovider"))
"""Top-level members that redirect an upstream proxy, with its own keys, to another server (LiteLLM,
CVE-2024-6587)."""
ANYWHERE = frozenset(
    (
        "cachedcontent",
        "cachedcontents",
        "collectionids",
        "comparisonresponseid",
        "connectorid",
        "containerid",
        "fileid",
        "fileids",
        "knowledgeid",
        "knowledgeids",
        "libraryids",
        "memorystoreid",
        "memorystoreids",
        "skillid",
        "tunnelid",
        "vectorstoreid",
        "vectorstoreids",
    )
)
"""Members that are a reference at any depth."""
NOTHING = (b"null", b'""', b"[]", b"{}")
_LONGEST_PATH = 200

LINKS = frozenset(
    (
        *("url", "uri", "image_url", "file_url", "file_uri", "video_url", "audio_url"),
        *("document_url", "file_data", "data"),
    )
)
"""Members with a link that the vendor fetches; it opens `gs:`, `s3:`, `file:` as the operator."""
_SCHEMES = ("http:", "https:", "data:")
_LONGEST_SCHEME = 32

_decode_text = msgspec.json.Decoder(str).decode


def refused(path: str, why: str = "it refers to an object that only its vendor has") -> Problem:
    """The refusal of the member at `path`, with OpenAI's `code` for it."""
    path = path[:_LONGEST_PATH]
    return Problem(
        "invalid_request",
        message=f"Unsupported parameter: `{path}` is not supported here; {why}.",
        param=path,
        issue="expected to be left out",
        extra={"code": "unsupported_parameter"},
    )


def refused_model(path: str) -> Problem:
    """The refusal of a member that names a model of the upstream."""
    return refused(path, "it names a model of the upstream")


def refused_place(path: str) -> Problem:
    """The refusal of a member that redirects the upstream."""
    return refused(path, "it names the place of an upstream")


def refused_link(path: str) -> Problem:
    """The refusal of a link that only the operator may open."""
    why = "expected an http or https URL, or a data URL"
    return invalid_value(path[:_LONGEST_PATH], why, issue="expected an http, https or data URL")


def is_private_link(raw: msgspec.Raw) -> bool:
    """Whether a link, as JSON, has a scheme other than a public address."""
    start = bytes(memoryview(raw)[: _LONGEST_SCHEME + 1])
    if start[:1] != b'"':
        return False
    if b"\\" in start:
        text = _decode_text(raw)[:_LONGEST_SCHEME]
    else:
        text = start[1:].decode("utf-8", "replace")
    text = text.lstrip().lower()
    scheme, found, _ = text.partition(":")
    if not found or not scheme[:1].isalpha() or "/" in scheme:
        return False
    return not text.startswith(_SCHEMES)
