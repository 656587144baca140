"""What downloads tell: plain values, which can be pickled."""

from __future__ import annotations

from collections import namedtuple


class Error(OSError):
    """A download that failed.

    ``str(error)`` says in one line what happened and what it means. It holds no secret: no query of
    a URL, no password, no header.

    Attributes:
        code: a stable word for what sort of failure it is, the same as in the command's events:
            ``usage``, ``output-exists``, ``locked``, ``local-file``, ``network``, ``tls``,
            ``access-denied``, ``proxy-refused``, ``protocol``, ``http-status``,
            ``digest-mismatch``, ``object-changed``, ``disk-full``, ``limit-reached``,
            ``cancelled`` or ``internal``.
        retryable: whether the same call may succeed later with nothing changed on this side.
        checkpoint: the path of what lets the same call continue instead of starting from zero, or
            ``None``.
        status: the HTTP status that caused it, or ``None``.
        hint: the next step for a person, or ``None``.
    """

    def __init__(self, message, *, code="internal", retryable=False, checkpoint=None, status=None, hint=None):
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.checkpoint = checkpoint
        self.status = status
        self.hint = hint

    def __repr__(self):
        return f"haul.Error({str(self)!r}, code={self.code!r})"


class Summary(
    namedtuple(
        "Summary",
        "output bytes fetched_bytes resumed_bytes unchanged blake3 verified elapsed connections requests retries",
    )
):
    """A complete download.

    Attributes:
        output: the path of the file.
        bytes: the object's size.
        fetched_bytes: bytes that came over the network.
        resumed_bytes: bytes that an earlier run had stored.
        unchanged: whether the file was there already, so that nothing was fetched.
        blake3: the BLAKE3 hash in hexadecimal; ``None`` if nothing was hashed.
        verified: the digest that was given or that the server told, and was compared, as
            ``ALGORITHM=HEX``, or ``None``.
        elapsed: seconds.
        connections: the most that were open at once.
        requests: how many requests were sent.
        retries: how many attempts failed.
    """

    __slots__ = ()


class Progress(namedtuple("Progress", "bytes total_bytes bytes_per_second eta connections retries")):
    """How far a download is.

    Attributes:
        bytes: bytes of the object that are here.
        total_bytes: the object's size, or ``None``.
        bytes_per_second: the speed of the last seconds.
        eta: seconds until the end at that speed, or ``None``.
        connections: how many are open.
        retries: how many attempts failed so far.
    """

    __slots__ = ()


class Result(namedtuple("Result", "item summary error")):
    """How an item of ``fetch_many`` ended: with a summary or with an error.

    Attributes:
        item: the item as it was given.
        summary: the ``Summary``, or ``None``.
        error: the ``Error``, or ``None``.
    """

    __slots__ = ()

    @property
    def ok(self):
        """Whether the file is complete."""
        return self.error is None

    @property
    def output(self):
        """The path of the complete file, or ``None``."""
        return self.summary.output if self.summary else None

    def unwrap(self):
        """Returns the summary, or raises the error."""
        if self.error is not None:
            raise self.error
        return self.summary


for _class in (Error, Summary, Progress, Result):
    _class.__module__ = "haul"
del _class
