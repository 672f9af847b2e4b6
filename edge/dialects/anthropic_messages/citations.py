"""Citations in Anthropic's form."""

from typing import Any

from edge.dialects import signatures
from edge.dialects.conversation import Citation


def citation_of(source: dict[str, Any]) -> Citation:
    """A citation of any kind; missing members are ""."""

    def word(*members: str) -> str:
        found = (source.get(member) for member in members)
        return next((value for value in found if isinstance(value, str)), "")

    url = word("url", "source")
    return Citation(
        url=url if url.startswith(("http://", "https://")) else "",
        title=word("title", "document_title"),
        quoted=word("cited_text"),
    )


def source_of(citation: Citation) -> dict[str, Any]:
    """A citation of another vendor. The mark lets `history` remove it before Anthropic reads it."""
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title or None,
        "cited_text": citation.quoted,
        "encrypted_index": signatures.MARK,
    }
