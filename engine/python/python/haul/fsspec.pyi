from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from os import PathLike
from typing import Any, Literal, Optional, Union

from fsspec.spec import AbstractFileSystem

_Path = Union[str, PathLike[str]]

__all__ = ["HaulFileSystem", "register"]

def register(protocols: Iterable[str] = ("http", "https")) -> None: ...

class HaulFileSystem(AbstractFileSystem):
    protocol: tuple[str, ...]
    def __init__(
        self, *, headers: Optional[Mapping[str, str]] = None, block_size: int = ..., **options: Any
    ) -> None: ...
    def unstrip_protocol(self, name: str) -> str: ...
    def info(self, path: _Path, **kwargs: Any) -> dict[str, Any]: ...
    def exists(self, path: _Path, **kwargs: Any) -> bool: ...
    def isfile(self, path: _Path) -> bool: ...
    def isdir(self, path: _Path) -> bool: ...
    def modified(self, path: _Path) -> datetime: ...
    def ukey(self, path: _Path) -> str: ...
    def checksum(self, path: _Path) -> int: ...
    def ls(self, path: _Path, detail: bool = True, **kwargs: Any) -> list[Any]: ...
    def expand_path(
        self,
        path: Union[_Path, Iterable[_Path]],
        recursive: bool = False,
        maxdepth: Optional[int] = None,
        **kwargs: Any,
    ) -> list[str]: ...
    def glob(
        self,
        path: Union[_Path, Iterable[_Path]],
        maxdepth: Optional[int] = None,
        *,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any: ...
    def find(
        self,
        path: Union[_Path, Iterable[_Path]],
        maxdepth: Optional[int] = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any: ...
    def cat_file(self, path: _Path, start: Optional[int] = None, end: Optional[int] = None) -> bytes: ...
    def cat_ranges(
        self,
        paths: list[str],
        starts: Union[Optional[int], Sequence[Optional[int]]],
        ends: Union[Optional[int], Sequence[Optional[int]]],
        max_gap: Optional[int] = None,
        on_error: Literal["raise", "return", "omit"] = "return",
    ) -> list[Any]: ...
    def cat(
        self,
        path: Union[_Path, Iterable[_Path]],
        recursive: bool = False,
        on_error: Literal["raise", "return", "omit"] = "raise",
        start: Optional[int] = None,
        end: Optional[int] = None,
    ) -> Any: ...
    def get_file(self, rpath: _Path, lpath: Any, callback: Any = ..., outfile: Any = None) -> None: ...
    def get(
        self,
        rpath: Union[_Path, Iterable[_Path]],
        lpath: Union[_Path, Sequence[_Path]],
        recursive: bool = False,
        callback: Any = ...,
        maxdepth: Optional[int] = None,
    ) -> None: ...
