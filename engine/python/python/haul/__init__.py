"""Downloads over many connections, continues after any interruption, and never publishes a wrong file.

>>> import haul
>>> haul.download("https://example.org/film.mp4", digest="sha256=HEX").output   # doctest: +SKIP
'./film.mp4'

Every function may be called from any thread, and after a fork. What waits lets other threads run and
gives way to Ctrl-C, after which the same call continues. Failures are `haul.Error`.
"""

from __future__ import annotations

from haul import _haul
from haul._reader import Reader, open
from haul._types import Error, Progress, Result, Summary

__all__ = [
    "Error",
    "Progress",
    "Reader",
    "Result",
    "Summary",
    "adownload",
    "afetch_many",
    "cat_ranges",
    "download",
    "fetch_many",
    "open",
    "patch_huggingface_hub",
    "unpatch_huggingface_hub",
]

__version__ = _haul.version


def download(
    url,
    output=None,
    *,
    dir=".",
    digest=None,
    size=None,
    headers=None,
    mirrors=(),
    existing="error",
    locked="error",
    sync=True,
    on_progress=None,
):
    """Downloads one file and returns its `Summary`.

    The file gets its name once it is complete and synced to the disk. Until then its bytes are in
    ``NAME.part``, and ``NAME.haul`` says which of them are there: the same call, in any process,
    continues from there.

    Args:
        url: an http or https URL.
        output: the file, below `dir` if relative; the server or the URL names it otherwise.
        dir: the directory of the file, created if needed.
        digest: ``ALGORITHM=HEX`` with sha256, sha512, sha1, md5 or blake3. A file with another
            digest is never published.
        size: the size in bytes that the object must have.
        headers: request headers, a mapping or pairs, for the URL's own origin.
        mirrors: other URLs of the same object. With a digest, all are used at once.
        existing: what happens when the output exists. ``"error"`` fails with the code
            ``output-exists``; ``"verify"`` counts it as done if it is provably the object, and fails
            otherwise; ``"skip"`` counts any file as done; ``"overwrite"`` replaces it once the new
            one is complete.
        locked: what happens while another download, in any process, writes to the same output.
            ``"error"`` fails with the code ``locked``, ``"wait"`` waits.
        sync: whether the file is synced to the disk before it gets its name. Without, a power cut
            may damage it.
        on_progress: called now and then in this thread with a `Progress`, and once at the end. What it
            raises ends the download and is raised here.

    Raises:
        Error: when the download failed.
        ValueError: for an argument that cannot be used.
    """
    wanted = _Wanted(url, output, dir, digest, size, headers, mirrors, existing, locked, sync)
    return _haul.download(wanted, on_progress)


class _Wanted:
    __slots__ = ("url", "output", "dir", "digest", "size", "headers", "mirrors", "existing", "locked", "sync")

    def __init__(self, *values):
        for name, value in zip(self.__slots__, values):
            setattr(self, name, value)
        self.mirrors = list(self.mirrors)


async def adownload(
    url,
    output=None,
    *,
    dir=".",
    digest=None,
    size=None,
    headers=None,
    mirrors=(),
    existing="error",
    locked="error",
    sync=True,
    on_progress=None,
):
    """As `download`, for asyncio. Cancelling the task stops the download, and the same call continues
    it. `on_progress` is called in the event loop."""
    from haul import _asyncio

    wanted = _Wanted(url, output, dir, digest, size, headers, mirrors, existing, locked, sync)
    return await _asyncio.download(wanted, on_progress)


def fetch_many(items, *, dir, results=None, jobs=None, existing="verify", locked="wait", sync=True):
    """Downloads a list, and yields exactly one `Result` for each item, in the order in which they end.

    An item that fails is a result with an error, never an exception, and no other item ends by it.
    The same call again fetches only what is missing.

    Args:
        items: an iterable, read a few ahead. An item is a URL; or a pair of a URL and an output; or
            a mapping with ``url`` or ``urls`` (mirrors), and perhaps ``id``, ``out``, ``dir``,
            ``size`` (bytes), ``digest`` (``ALGORITHM=HEX``) and ``headers``, as a line of the
            command's lists has them. Outputs are relative to `dir` and stay below it.
        dir: the directory of the files.
        results: a file that gets a record for each item that ended, as the command's ``--results``
            does. Items that are complete in it are not fetched again.
        jobs: how many downloads run at a time. By default it depends on how large the files prove to
            be: 4 large ones, 32 small ones, or 100 that share connections.
        existing, locked, sync: as for `download`.

    Closing the iterator stops what still runs; what that has is kept.

    Raises:
        ValueError: for an argument that cannot be used.
        Error: when the file of results cannot be read or written.
    """
    many = _haul.Many(dir=dir, results=results, jobs=jobs, existing=existing, locked=locked, sync=sync)
    return _each(many, iter(items))


def _each(many, items):
    try:
        many.fill(items)
        while True:
            results = many.take()
            if not results:
                return
            for result in results:
                many.fill(items)
                yield result
    finally:
        many.close()


def afetch_many(items, *, dir, results=None, jobs=None, existing="verify", locked="wait", sync=True):
    """As `fetch_many`, as an asynchronous iterator for asyncio. `items` is an ordinary iterable."""
    from haul import _asyncio

    many = _haul.Many(dir=dir, results=results, jobs=jobs, existing=existing, locked=locked, sync=sync)
    return _asyncio.each(many, iter(items))


def cat_ranges(urls, starts, ends, *, headers=None):
    """Fetches parts of objects into memory: the bytes ``starts[i]`` to ``ends[i]`` (exclusive) of
    ``urls[i]``, many at a time.

    Args:
        urls: a sequence of URLs, or one URL for all.
        starts: a sequence of offsets; one below zero counts from the end, ``None`` is 0.
        ends: a sequence of offsets; ``None`` is the end of the object. An end beyond it counts as
            the end.
        headers: request headers, a mapping or pairs.

    Returns:
        A list with the ``bytes`` of each range, or the `Error` that it met.

    Raises:
        ValueError: for arguments that cannot be used.
    """
    if isinstance(urls, str):
        urls = [urls] * len(starts)
    parts = _haul.parts(urls, starts, ends, headers)
    return [part if isinstance(part, Error) else part[0] for part in parts]


def patch_huggingface_hub(*, sync=True):
    """Has the installed ``huggingface_hub`` fetch files with haul; see `haul.huggingface`."""
    from haul import huggingface

    huggingface.patch_huggingface_hub(sync=sync)


def unpatch_huggingface_hub():
    """Undoes `patch_huggingface_hub`."""
    from haul import huggingface

    huggingface.unpatch_huggingface_hub()
