"""An object on an HTTP server as an open file of fsspec."""

from __future__ import annotations

import errno

from fsspec.caching import BaseCache, register_cache
from fsspec.spec import AbstractBufferedFile

from haul._reader import open as open_reader
from haul._types import Error


class NotFound(Error, FileNotFoundError):
    """The server has no such object."""

    errno = errno.ENOENT


class Denied(Error, PermissionError):
    """The server does not give the object."""

    errno = errno.EACCES


_BY_STATUS = {404: NotFound, 410: NotFound, 401: Denied, 403: Denied}


def translated(error):
    """The error as programs expect it of a file system; it is a `haul.Error` all the same."""
    kind = _BY_STATUS.get(error.status)
    if kind is None:
        return error
    told = {name: getattr(error, name) for name in ("code", "retryable", "checkpoint", "status", "hint")}
    return kind(str(error), **told)


# The most that is read ahead. From as much on, a range comes over several connections.
BLOCK_BYTES = 8 << 20

# What is read ahead after a seek.
_LEAST_AHEAD_BYTES = 64 << 10


class DoublingCache(BaseCache):
    """Reads ahead 64 KiB after a seek, and twice as much each time while reads are consecutive, up to the block
    size. So formats with an index, such as Parquet, have little fetched in vain, and what is read in order comes in
    large parts."""

    name = "haul"

    def __init__(self, blocksize, fetcher, size):
        super().__init__(blocksize, fetcher, size)
        self._start = 0
        self._data = b""
        self._ahead = _LEAST_AHEAD_BYTES

    def _fetch(self, start, stop):
        start, stop = start or 0, self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        end = self._start + len(self._data)
        is_consecutive = self._data and self._start <= start <= end
        held = self._data[start - self._start : stop - self._start] if is_consecutive else b""
        if len(held) == stop - start:
            self.hit_count += 1
            return held
        self.miss_count += 1
        self._ahead = min(self._ahead * 2, self.blocksize) if is_consecutive else _LEAST_AHEAD_BYTES
        first = start + len(held)
        last = min(max(stop, first + self._ahead), self.size)
        self.total_requested_bytes += last - first
        # What is returned stays: those who look for the end of a line go back into it.
        self._start, self._data = first - len(held), held + self.fetcher(first, last)
        return self._data[: stop - self._start]


register_cache(DoublingCache, clobber=True)


class HaulFile(AbstractBufferedFile):
    """An object that is read by ranges, all of the version that was opened, from `HaulFileSystem.open`. Its `told` is
    the `Object`.

    Where the server sends no parts or tells no version, the object is downloaded as a whole while it is read,
    by `haul.open`; without a size, opening waits for the end of that.

    A pickle holds the version and the offset, and the file is read on only if it is still of that version. One
    that is downloaded as a whole cannot be pickled.
    """

    def __init__(self, fs, path, told, *, block_size, cache_type=None, cache_options=None):
        self._reader = None
        if not (told.ranges and told.versioned and told.size is not None):
            self._reader = open_reader(path, headers=fs._headers)
            cache_type, cache_options = "none", None
            try:
                told = self._reader._object()
                if told.size is None:
                    told = told._replace(size=self._reader.seek(0, 2))
            except Error as error:
                raise translated(error) from None
        self.told = told
        super().__init__(
            fs,
            path,
            block_size=block_size,
            cache_type=cache_type or DoublingCache.name,
            cache_options=cache_options,
            size=told.size,
        )
        self.details = fs._describe(path, told)

    def __repr__(self):
        return f"<HaulFile {self.told.url}>"

    __str__ = __repr__

    def readuntil(self, char=b"\n", blocks=None):
        """Reads up to and with these bytes, looking for them in blocks of so many bytes."""
        return super().readuntil(char, blocks or _LEAST_AHEAD_BYTES)

    def _fetch_range(self, start, end):
        # Some caches ask beyond the end.
        end = min(end, self.size)
        if self._reader is not None:
            return self._read_whole(start, end)
        (data,) = self.fs._contents([self.path], [start], [end], {self.path: self.told})
        if isinstance(data, Error):
            raise data
        if len(data) != end - start:
            raise self.told.changed()
        return data

    def _read_whole(self, start, end):
        try:
            self._reader.seek(start)
            data = self._reader.read(end - start)
            # The download may have started over before its first byte was read.
            self.told.require(self._reader._object())
        except Error as error:
            raise translated(error) from None
        if len(data) != end - start:
            raise self.told.changed()
        return data

    def close(self):
        """Closes the file, and stops the download if there is one."""
        reader = getattr(self, "_reader", None)
        if reader is not None:
            reader.close()
        super().close()

    def __reduce__(self):
        if self._reader is not None:
            why = "sends no parts of it" if self.told.versioned else "tells no version of it"
            raise TypeError(
                f"{self.told.url} cannot be pickled while it is open, since its server {why}: pickle the file system, "
                "and open the file in the other process"
            )
        if self.closed:
            raise ValueError(f"{self.told.url} is closed, and what is closed cannot be pickled")
        return _reopened, (self.fs, self.path, self.told, self.blocksize, self.cache.name, self.loc)


def _reopened(fs, path, told, block_size, cache_type, offset):
    file = HaulFile(fs, path, told, block_size=block_size, cache_type=cache_type)
    file.seek(offset)
    return file
