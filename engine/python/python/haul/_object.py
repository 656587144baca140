"""What servers tell of objects, and whether two answers are of one version."""

from __future__ import annotations

from collections import namedtuple

from haul import _haul
from haul._types import Error


class Object(namedtuple("Object", "size url etag mtime content_type ranges versioned")):
    """What a server told of an object.

    Attributes:
        size: in bytes, or ``None``.
        url: the URL that answered, after redirects, without its query.
        etag: the entity tag as HTTP writes it, or ``None``.
        mtime: the date of the last change, in whole seconds since 1970, or ``None``.
        content_type: as the server sent it, or ``None``.
        ranges: whether the server sends parts.
        versioned: whether another version would show, by a strong entity tag or by the date.
    """

    __slots__ = ()

    def require(self, other):
        """Raises `Error` if `other`, which the server told of the same URL, is of another version. Two strong entity
        tags decide, and otherwise all that was told has to agree."""
        same = self.etag == other.etag and (_is_strong(self.etag) or self.mtime == other.mtime)
        if not same or len({self.size, other.size} - {None}) > 1:
            raise self.changed()

    def changed(self):
        """The `Error` for an object of which there is another version now."""
        return Error(
            f"{self.url} changed while it was read, so its parts would be of two versions",
            code="object-changed",
            retryable=True,
            hint="open it again and read it from the start",
        )


def _is_strong(etag):
    return etag is not None and not etag.startswith("W/")


def probe(url, headers):
    """Asks for one byte of an object, or for all of it and hangs up where that tells nothing, and
    returns an `Object`."""
    (part,) = _haul.parts([url], [0], [1], headers)
    if not isinstance(part, Error):
        return Object(*part[1])
    # An object without bytes has no first one, and some servers send no parts.
    if part.status != 416 and part.code != "protocol":
        raise part
    source = _haul.Source(url, headers, [])
    try:
        return Object(*source.object())
    finally:
        source.close()
