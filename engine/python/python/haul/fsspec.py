"""Objects on HTTP servers for fsspec, and for what reads files through it, such as pandas, pyarrow, Dask and
DuckDB.

>>> import pandas
>>> pandas.read_parquet("haul+https://example.org/table.parquet")   # doctest: +SKIP

The URLs are ``haul+http://`` and ``haul+https://``, which fsspec knows where the package is installed. After
`register`, plain ``http://`` and ``https://`` are read by haul as well.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import uuid4

from fsspec import register_implementation
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike, stringify_path

from haul import _haul, download, fetch_many
from haul._fsspec_file import BLOCK_BYTES, HaulFile, translated
from haul._object import Object, probe
from haul._types import Error

__all__ = ["HaulFileSystem", "register"]

_PREFIX = "haul+"

# What fsspec itself understands, whatever the file system.
_OF_FSSPEC = {"use_listings_cache", "listings_expiry_time", "max_paths", "asynchronous", "loop", "batch_size"}


def register(protocols=("http", "https")):
    """Has fsspec read the URLs of these protocols by haul in this process, instead of by aiohttp."""
    for protocol in protocols:
        register_implementation(protocol, HaulFileSystem, clobber=True)


class HaulFileSystem(AbstractFileSystem):
    """Objects on HTTP servers, which can be read. A path is a URL.

    No request is a HEAD: the first byte of an object tells what there is to know. Nothing can be listed over
    HTTP: `ls` and `find` give the object itself, and a pattern with ``*`` is refused.

    An object that changes while it is read is an error with the code ``object-changed``. It shows by its entity
    tag, by the date of its last change, or by its size. Where the server tells neither tag nor date, or sends no
    parts, a file that is opened is downloaded as a whole at once, by `haul.open`.

    Args:
        headers: request headers, a mapping, for the origins of the URLs. They are kept where the file system is
            pickled or written as JSON.
        block_size: how far an open file reads ahead at most, in bytes.

    Its methods raise `FileNotFoundError` for the statuses 404 and 410 and `PermissionError` for 401 and 403, which
    are also `haul.Error`, and `haul.Error` for all other failures.
    """

    protocol = ("haul+http", "haul+https")

    def __init__(self, *, headers=None, block_size=BLOCK_BYTES, **options):
        unknown = sorted(options.keys() - _OF_FSSPEC)
        if unknown:
            raise TypeError(
                f"HaulFileSystem has no option {', '.join(unknown)}, which would have no effect: it has headers and "
                "block_size"
            )
        super().__init__(**options)
        self._headers = dict(headers or {})
        self._block_size = block_size

    @classmethod
    def _strip_protocol(cls, path):
        if isinstance(path, (list, tuple)):
            return [cls._strip_protocol(one) for one in path]
        path = stringify_path(path)
        return path[len(_PREFIX) :] if path.startswith(_PREFIX) else path

    def unstrip_protocol(self, name):
        """The URL with the protocol that fsspec always has read by haul."""
        return _PREFIX + self._strip_protocol(name)

    def _object(self, url):
        try:
            return probe(url, self._headers)
        except Error as error:
            raise translated(error) from None

    def _describe(self, url, told):
        info = {"name": url, "size": told.size, "type": "file", "url": told.url, "partial": told.ranges}
        for key, value in (("ETag", told.etag), ("mtime", told.mtime), ("mimetype", told.content_type)):
            if value is not None:
                info[key] = value
        return info

    def info(self, path, **kwargs):
        """What the server tells of an object, by a request for its first byte: ``size`` in bytes or ``None``,
        ``ETag``, ``mtime`` (seconds since 1970) and ``mimetype`` where it tells them, the ``url`` that answered,
        and whether it sends parts (``partial``)."""
        url = self._strip_protocol(path)
        return self._describe(url, self._object(url))

    def exists(self, path, **kwargs):
        """Whether the server has the object. A failure that does not answer this is raised."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def isfile(self, path):
        """As `exists`, since there are no directories."""
        return self.exists(path)

    def isdir(self, path):
        """False."""
        return False

    def modified(self, path):
        """The date of the last change; the present where the server tells none, since nothing shows that the object
        has not just changed."""
        told = self._object(self._strip_protocol(path))
        return datetime.now(timezone.utc) if told.mtime is None else datetime.fromtimestamp(told.mtime, timezone.utc)

    def ukey(self, path):
        """A key of the object's version. Where the server tells no version, it is another one each time, since the
        object may be another one."""
        told = self._object(self._strip_protocol(path))
        version = (told.size, told.etag, told.mtime) if told.versioned else uuid4()
        return sha256(repr((self._strip_protocol(path), version)).encode()).hexdigest()

    def checksum(self, path):
        """As `ukey`, as a number."""
        return int(self.ukey(path), 16)

    def ls(self, path, detail=True, **kwargs):
        """The object itself: nothing can be listed over HTTP."""
        info = self.info(path)
        return [info] if detail else [info["name"]]

    def expand_path(self, path, recursive=False, maxdepth=None, **kwargs):
        """The URLs, as they are.

        Raises:
            NotImplementedError: for a pattern with ``*``.
        """
        urls = self._strip_protocol([path] if isinstance(path, (str, os.PathLike)) else list(path))
        for url in urls:
            if "*" in url.partition("?")[0]:
                raise NotImplementedError(
                    f"{_shown(url)} is a pattern, and nothing can be listed over HTTP: give the URLs one by "
                    "one, with %2A for a * that is part of one"
                )
        return urls

    def glob(self, path, maxdepth=None, *, detail=False, **kwargs):
        """The object itself if it exists; ``?`` and brackets are part of URLs. Fails for ``*`` as `expand_path`."""
        found = {}
        for url in self.expand_path(path):
            try:
                found[url] = self.info(url)
            except FileNotFoundError:
                pass
        return found if detail else list(found)

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
        """As `glob`."""
        return self.glob(path, detail=detail)

    def _contents(self, paths, starts, ends, required=None):
        """For each range its bytes, or the error that it met.

        The ranges of one URL are of one version, and of that of the `Object` that `required` may have for the URL.
        Where the server sends no parts, they are read from one download of the whole object.
        """
        urls, starts, ends = self._strip_protocol(paths), list(starts), list(ends)
        seen, failed = dict(required or {}), {}
        for at, (url, start, end) in enumerate(zip(urls, starts, ends)):
            if end is None or (end >= 0 and (start or 0) >= 0):
                continue
            try:
                if url not in seen:
                    seen[url] = self._object(url)
                starts[at], ends[at] = _counted_from_start(seen[url], start, end)
            except Error as error:
                failed[at], starts[at], ends[at] = error, 0, 0
        parts = _haul.parts(urls, starts, ends, self._headers)
        contents, files = [], {}
        with ExitStack() as opened:
            for at, (url, part) in enumerate(zip(urls, parts)):
                try:
                    if at in failed:
                        raise failed[at]
                    if not isinstance(part, Error) or part.code != "protocol":
                        contents.append(self._bytes_of(url, starts[at], part, seen))
                        continue
                    if url not in files:
                        files[url] = opened.enter_context(self._open(url))
                        seen.setdefault(url, files[url].told).require(files[url].told)
                    contents.append(_part_of(files[url], starts[at], ends[at]))
                except Error as error:
                    contents.append(error)
        return contents

    def _bytes_of(self, url, start, part, seen):
        if isinstance(part, Error):
            if part.status != 416:
                raise translated(part)
            # No byte of the object is in the range, unless it is of another version by now.
            data, told = b"", self._object(url)
            if told.size is not None and (start or 0) < told.size:
                raise told.changed()
        else:
            data, told = part
            told = told and Object(*told)
        if told is not None:
            seen.setdefault(url, told).require(told)
        return data

    def cat_file(self, path, start=None, end=None):
        """The bytes of an object, or of a part of it; a `start` or `end` below zero counts from the end."""
        (data,) = self._contents([path], [start], [end])
        return _returned(data)

    def cat_ranges(self, paths, starts, ends, max_gap=None, on_error="return"):
        """Parts of objects, many at a time.

        Args:
            paths: a list of URLs.
            starts, ends: lists of offsets, or one offset for all; one below zero counts from the end.
            max_gap: has no effect, since each range is fetched by itself.
            on_error: ``"return"`` has errors in the list that is returned, at their places; anything else raises
                the first one, since a list without it would have its ranges at other places.
        """
        if not isinstance(paths, list):
            raise TypeError(f"paths={paths!r} is not a list")
        starts, ends = (each if isinstance(each, (list, tuple)) else [each] * len(paths) for each in (starts, ends))
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError(f"there are {len(paths)} paths, {len(starts)} starts and {len(ends)} ends")
        contents = self._contents(paths, starts, ends)
        return contents if on_error == "return" else [_returned(data) for data in contents]

    def cat(self, path, recursive=False, on_error="raise", start=None, end=None):
        """The bytes of one object, or a mapping of those of several, which are fetched many at a time.

        Args:
            path: a URL or a list of URLs.
            on_error: for a list: ``"raise"`` raises the first error, ``"return"`` has errors in the mapping, and
                ``"omit"`` leaves out what failed.
            start, end: as for `cat_file`.
        """
        urls = self.expand_path(path)
        contents = self._contents(urls, [start] * len(urls), [end] * len(urls))
        if isinstance(path, (str, os.PathLike)):
            return _returned(contents[0])
        if on_error == "raise":
            contents = [_returned(data) for data in contents]
        return {url: data for url, data in zip(urls, contents) if on_error != "omit" or isinstance(data, bytes)}

    def get_file(self, rpath, lpath, callback=DEFAULT_CALLBACK, outfile=None):
        """Downloads one object to a file, which it replaces once it is complete, or into a file object."""
        if outfile is None and isfilelike(lpath):
            outfile = lpath
        if outfile is not None:
            with self.open(rpath) as file:
                callback.set_size(file.size)
                while data := file.read(self._block_size):
                    outfile.write(data)
                    callback.relative_update(len(data))
            return

        def on_progress(progress):
            callback.set_size(progress.total_bytes)
            callback.absolute_update(progress.bytes)

        try:
            download(
                self._strip_protocol(rpath),
                os.path.abspath(stringify_path(lpath)),
                headers=self._headers,
                existing="overwrite",
                locked="wait",
                on_progress=on_progress,
            )
        except Error as error:
            raise translated(error) from None

    def get(self, rpath, lpath, recursive=False, callback=DEFAULT_CALLBACK, maxdepth=None):
        """Downloads one object or several to files, many at a time. The first failure is raised once all have ended.

        Args:
            rpath: a URL or a list of URLs.
            lpath: a list of files, or a directory, or for one URL a file.
        """
        urls = self.expand_path(rpath)
        if isinstance(lpath, (list, tuple)):
            files = [stringify_path(file) for file in lpath]
            if len(files) != len(urls):
                raise ValueError(f"there are {len(urls)} URLs and {len(files)} files")
        else:
            lpath = stringify_path(lpath)
            is_one = isinstance(rpath, (str, os.PathLike)) and not os.path.isdir(lpath) and not lpath.endswith("/")
            files = [lpath] if is_one else [os.path.join(lpath, _name(url)) for url in urls]
        places = {os.path.abspath(file) for file in files}
        if len(places) < len(files):
            raise ValueError(
                f"{len(files)} URLs would be {len(places)} files, since some have the same name: give a list of files, "
                "each with a name of its own"
            )
        callback.set_size(len(urls))
        if len(urls) == 1:
            with callback.branched(urls[0], files[0]) as child:
                self.get_file(urls[0], files[0], callback=child)
            callback.relative_update(1)
        elif urls:
            self._get_many(urls, [os.path.abspath(file) for file in files], callback)

    def _get_many(self, urls, files, callback):
        directory = os.path.commonpath([os.path.dirname(file) for file in files])
        items = (
            {"url": url, "out": os.path.relpath(file, directory), "headers": self._headers}
            for url, file in zip(urls, files)
        )
        failed = None
        with closing(fetch_many(items, dir=directory, existing="overwrite")) as results:
            for result in results:
                failed = failed or result.error
                callback.relative_update(1)
        if failed is not None:
            raise translated(failed)

    def _open(
        self,
        path,
        mode="rb",
        block_size=None,
        autocommit=True,
        cache_type=None,
        cache_options=None,
        size=None,
    ):
        if mode != "rb":
            raise NotImplementedError(f"mode={mode!r}: objects on HTTP servers can only be read")
        url = self._strip_protocol(path)
        return HaulFile(
            self,
            url,
            self._object(url),
            block_size=block_size or self._block_size,
            cache_type=cache_type,
            cache_options=cache_options,
        )


def _counted_from_start(told, start, end):
    """A range with offsets below zero, which count from the end of the object."""
    if told.size is None:
        raise Error(f"no offset counts from the end of {told.url}: the server does not tell its size", code="protocol")
    return slice(start, end).indices(told.size)[:2]


def _part_of(file, start, end):
    start, end, _ = slice(start, end).indices(file.size)
    file.seek(start)
    return file.read(max(0, end - start))


def _returned(data):
    if isinstance(data, Error):
        raise data
    return data


def _shown(url):
    """A URL without what may be secret in it: a login and the query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _name(url):
    name = urlsplit(url).path.rpartition("/")[2]
    if name in ("", ".", ".."):
        raise ValueError(f"{_shown(url)} ends in no name for a file: give a list of files")
    return name
