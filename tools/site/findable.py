"""What readers look for, and the pages on which the search of the site must find it."""

from typing import Any

FINDABLE = {
    "exploding": "learn/backward/",
    "glossary": "learn/glossary/",
    "perplexity": "learn/forward/",
    "slides": "learn/instructors/",
    "teacher forcing": "learn/text/",
}


def not_found(index: dict[str, Any]) -> list[str]:
    """The words that are in no heading of their page in the search index of MkDocs.

    >>> not_found({"docs": [{"location": page + "#a", "title": words} for words, page in FINDABLE.items()]})
    []
    """
    return [
        words
        for words, page in FINDABLE.items()
        if not any(
            entry["location"].startswith(page) and words in entry["title"].lower() for entry in index["docs"]
        )
    ]
