import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, NamedTuple, Optional, Union

from _typeshed import WriteableBuffer

_Path = Union[str, PathLike[str]]
_Headers = Union[Mapping[str, str], Iterable[tuple[str, str]]]
_Existing = Literal["error", "verify", "skip", "overwrite"]
_Locked = Literal["error", "wait"]
_Item = Union[str, tuple[str, _Path], Mapping[str, Any]]

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
__version__: str

class Error(OSError):
    code: str
    retryable: bool
    checkpoint: Optional[str]
    status: Optional[int]
    hint: Optional[str]
    def __init__(
        self,
        message: str,
        *,
        code: str = "internal",
        retryable: bool = False,
        checkpoint: Optional[str] = None,
        status: Optional[int] = None,
        hint: Optional[str] = None,
    ) -> None: ...

class Summary(NamedTuple):
    output: str
    bytes: int
    fetched_bytes: int
    resumed_bytes: int
    unchanged: bool
    blake3: Optional[str]
    verified: Optional[str]
    elapsed: float
    connections: int
    requests: int
    retries: int

class Progress(NamedTuple):
    bytes: int
    total_bytes: Optional[int]
    bytes_per_second: float
    eta: Optional[float]
    connections: int
    retries: int

class Result(NamedTuple):
    item: Any
    summary: Optional[Summary]
    error: Optional[Error]
    @property
    def ok(self) -> bool: ...
    @property
    def output(self) -> Optional[str]: ...
    def unwrap(self) -> Summary: ...

class Reader(io.RawIOBase):
    def __init__(self, source: Any, asked: Any, expected: Any = None) -> None: ...
    @property
    def size(self) -> Optional[int]: ...
    @property
    def url(self) -> str: ...
    def read(self, size: Optional[int] = -1) -> bytes: ...
    def readall(self) -> bytes: ...
    def readinto(self, buffer: WriteableBuffer) -> int: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...

def download(
    url: str,
    output: Optional[_Path] = None,
    *,
    dir: _Path = ".",
    digest: Optional[str] = None,
    size: Optional[int] = None,
    headers: Optional[_Headers] = None,
    mirrors: Iterable[str] = (),
    existing: _Existing = "error",
    locked: _Locked = "error",
    sync: bool = True,
    on_progress: Optional[Callable[[Progress], object]] = None,
) -> Summary: ...
async def adownload(
    url: str,
    output: Optional[_Path] = None,
    *,
    dir: _Path = ".",
    digest: Optional[str] = None,
    size: Optional[int] = None,
    headers: Optional[_Headers] = None,
    mirrors: Iterable[str] = (),
    existing: _Existing = "error",
    locked: _Locked = "error",
    sync: bool = True,
    on_progress: Optional[Callable[[Progress], object]] = None,
) -> Summary: ...
def fetch_many(
    items: Iterable[_Item],
    *,
    dir: _Path,
    results: Optional[_Path] = None,
    jobs: Optional[int] = None,
    existing: _Existing = "verify",
    locked: _Locked = "wait",
    sync: bool = True,
) -> Iterator[Result]: ...
def afetch_many(
    items: Iterable[_Item],
    *,
    dir: _Path,
    results: Optional[_Path] = None,
    jobs: Optional[int] = None,
    existing: _Existing = "verify",
    locked: _Locked = "wait",
    sync: bool = True,
) -> AsyncIterator[Result]: ...
def cat_ranges(
    urls: Union[str, Sequence[str]],
    starts: Sequence[Optional[int]],
    ends: Sequence[Optional[int]],
    *,
    headers: Optional[_Headers] = None,
) -> list[Union[bytes, Error]]: ...
def open(url: str, *, headers: Optional[_Headers] = None, mirrors: Iterable[str] = ()) -> Reader: ...
def patch_huggingface_hub(*, sync: bool = True) -> None: ...
def unpatch_huggingface_hub() -> None: ...
