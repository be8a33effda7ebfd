"""What the site must hold to, as warnings, which `strict` makes errors: a page loads nothing from another host."""

import logging
import re
from typing import Any

_log = logging.getLogger("mkdocs.hooks.own")
_LOADS = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"' >]+", re.IGNORECASE
)
_LINKED = re.compile(r"<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^\"' >]+[^>]*>", re.IGNORECASE)
# These name an address, and load nothing.
_NAMES_ONLY = re.compile(r"\brel=[\"']?(?:canonical|prev|next|alternate)\b", re.IGNORECASE)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """MkDocs calls this with the HTML of each page."""
    linked = [tag for tag in _LINKED.findall(output) if not _NAMES_ONLY.search(tag)]
    for tag in [*_LOADS.findall(output), *linked]:
        _log.warning("Keep what a page loads on this site: %s has %s", page.file.src_uri, tag[:200])
    return output
