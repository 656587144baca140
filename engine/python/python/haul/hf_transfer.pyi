from collections.abc import Callable, Mapping
from os import PathLike
from typing import Optional, Union

def download(
    url: str,
    filename: Union[str, PathLike[str]],
    max_files: int,
    chunk_size: int,
    parallel_failures: int = 0,
    max_retries: int = 0,
    headers: Optional[Mapping[str, str]] = None,
    callback: Optional[Callable[[int], object]] = None,
) -> None: ...
