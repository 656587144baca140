"""Reading an object while it downloads."""

from __future__ import annotations

import io
from collections.abc import Mapping

from haul import _haul
from haul._object import Object


class Reader(io.RawIOBase):
    """An object that is read while it downloads, from `open`.

    Reading waits for bytes that are not here yet and has them fetched first; the rest comes over the
    connections that reading leaves free. If the object changes on the server, reading fails with the
    code ``object-changed`` and never mixes two versions. Where the server tells no version of it, by an
    entity tag or a date, only another size shows a change.

    The bytes are in a file without a name in the directory for temporary files, which has to have room
    for the object. Closing the reader stops the download and frees them.

    A pickle holds the URLs, the headers, the offset and the version. The copy downloads the object anew,
    and reading it fails with the code ``object-changed`` if that is of another version.
    """

    def __init__(self, source, asked, expected=None):
        super().__init__()
        self._source = source
        self._asked = asked
        self._expected = expected

    def __reduce__(self):
        told = self._object()
        if not told.versioned:
            raise TypeError(
                f"{told.url} cannot be pickled while it is read, since its server tells no version of it, by which "
                "the same object could be recognized: open it in the other process"
            )
        return _opened, (self._asked, told, self.tell())

    def _object(self):
        """What the server tells; waits for the first response."""
        told = Object(*self._source.object())
        if self._expected is not None:
            self._expected.require(told)
        return told

    def _read(self, size):
        data = self._source.read(size)
        # The download may have started over, with another version, before its first byte was read.
        if self._expected is not None:
            self._object()
        return data

    @property
    def size(self):
        """The object's size in bytes, or ``None`` if the server does not tell it."""
        return self._object().size

    @property
    def url(self):
        """The URL that answered, after redirects."""
        return self._object().url

    def readable(self):
        """True."""
        return True

    def seekable(self):
        """True."""
        return True

    def read(self, size=-1):
        """Reads `size` bytes, fewer at the end, or everything up to the end."""
        if size is None or size < 0:
            return self.readall()
        return self._read(size)

    def readall(self):
        """Reads everything up to the end."""
        return self._read((1 << 63) - 1)

    def readinto(self, buffer):
        """Reads into a buffer, until it is full or the object ends."""
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset, whence=io.SEEK_SET):
        """Goes to another place, also to one that is not here yet. From the end it waits for the first
        response."""
        place = self._source.seek(offset, whence)
        if self._expected is not None and whence == io.SEEK_END:
            self._object()
        return place

    def tell(self):
        """The offset of the next byte."""
        return self._source.tell()

    def close(self):
        """Stops the download and frees what it has."""
        if not self.closed:
            self._source.close()
        super().close()


def open(url, *, headers=None, mirrors=()):
    """Begins to download an object and returns a `Reader` of it, without waiting.

    ``io.BufferedReader(haul.open(url))`` is for many small reads.

    Args:
        url: an http or https URL.
        headers: request headers, a mapping or pairs, for the URL's own origin.
        mirrors: other URLs of the same object.

    Raises:
        Error: for a URL that cannot be used.
    """
    if headers is not None:
        headers = [*(headers.items() if isinstance(headers, Mapping) else headers)]
    return _opened((url, headers, list(mirrors)))


def _opened(asked, expected=None, offset=0):
    reader = Reader(_haul.Source(*asked), asked, expected)
    reader.seek(offset)
    return reader
