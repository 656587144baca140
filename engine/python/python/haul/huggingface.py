"""The bytes of the Hugging Face client by haul.

`patch_huggingface_hub` has ``hf_hub_download``, ``snapshot_download`` and what is built on them fetch files over many
connections, and continue after a kill. All else stays the client's own: the layout of the cache, its locks, offline
mode, tokens, progress bars and ``local_dir``. ``python -m haul.huggingface`` is the client's command ``hf`` with the
patch.

Two functions of the client are replaced, both in ``huggingface_hub.file_download``:

- ``_download_to_tmp_and_move`` gets the bytes. Here haul writes to the name of the client's own unfinished file, checks
  the content against the entity tag, and leaves it to the client to move it in place.
- ``_get_metadata_or_catch_error`` says from where. For a large file, the client would have a signed link, which
  expires. Here it is the hub's own address, at the commit that was found: haul asks it for a new link when that is
  needed, sends the token to the hub's origin only, and a branch that moves meanwhile changes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import re
import sys
import threading
from urllib.parse import urlsplit

import haul

__all__ = ["patch_huggingface_hub", "unpatch_huggingface_hub"]

# What the replaced functions must take for the replacements to do the same.
_EXPECTED = {
    "_download_to_tmp_and_move": {
        "incomplete_path",
        "destination_path",
        "url_to_download",
        "headers",
        "expected_size",
        "filename",
        "force_download",
        "etag",
    },
    "_get_metadata_or_catch_error": {"repo_id", "filename", "repo_type", "revision", "endpoint", "headers"},
}
# What may be given as well. Files in Xet storage are also to be had without it, by the hub's address.
_KNOWN = {"xet_file_data", "tqdm_class"}
_USED = ("_chmod_and_move", "_check_disk_space", "_get_progress_bar_context", "hf_hub_url", "logger")

_lock = threading.Lock()
_originals = {}
_sync = True


def patch_huggingface_hub(*, sync=True):
    """Has the installed ``huggingface_hub`` fetch files with haul, in this process, from now on.

    A second call changes nothing but `sync`. Files are checked before they are in the cache: large ones against the
    SHA-256 that the hub tells, small ones against their git hash. The client's Xet way is not taken by downloads of
    files. ``HfFileSystem`` and uploads are as before.

    Failures of the transfer are `haul.Error`, which is an ``OSError``; all others are the client's own.

    Args:
        sync: whether a file is synced to the disk before it gets its name in the cache. The client by itself does not,
            nor does it ever look again at what is there after a power cut. Many small files are fetched faster without.

    Raises:
        ImportError: when ``huggingface_hub`` is not installed.
        RuntimeError: when its version does not work as expected inside. Nothing is changed then.
    """
    import huggingface_hub
    from huggingface_hub import file_download

    global _sync
    with _lock:
        if _originals:
            _sync = sync
            return
        _check(file_download, huggingface_hub.__version__)
        for replacement in (_download_to_tmp_and_move, _get_metadata_or_catch_error):
            name = replacement.__name__
            original = _originals[name] = getattr(file_download, name)
            setattr(file_download, name, functools.partial(replacement, file_download, original))
        _sync = sync


def unpatch_huggingface_hub():
    """Undoes `patch_huggingface_hub`; without one, it changes nothing. Running downloads go on with haul."""
    with _lock:
        if _originals:
            from huggingface_hub import file_download

            for name, original in _originals.items():
                setattr(file_download, name, original)
            _originals.clear()


def _check(module, version):
    missing = [name for name in (*_EXPECTED, *_USED) if not hasattr(module, name)]
    for name, expected in _EXPECTED.items():
        if name not in missing:
            lacks = expected - inspect.signature(getattr(module, name)).parameters.keys()
            missing += [f"{argument} of {name}" for argument in sorted(lacks)]
    if missing:
        raise RuntimeError(
            f"huggingface_hub {version} is not as haul expects, and was not patched: {', '.join(missing)} is missing; "
            "it downloads by itself as before, or install a version that docs/python.md of haul names"
        )


def _get_metadata_or_catch_error(client, original, *args, **kwargs):
    given = _arguments(original, args, kwargs)
    headers = given["headers"]
    authorization = headers.get("authorization")
    found = original(*args, **kwargs)
    url, etag, commit, size, _, error = found
    if error is not None:
        return found
    asked, at_commit = (
        client.hf_hub_url(
            given["repo_id"],
            given["filename"],
            repo_type=given["repo_type"],
            revision=revision,
            endpoint=given["endpoint"],
        )
        for revision in (given["revision"], commit)
    )
    if urlsplit(url)[:2] != urlsplit(asked)[:2] and "authorization" in headers:
        # Another host of the hub, to which the client itself lets the token go. haul would not, after a redirect.
        return found
    if authorization is not None:
        # The client takes it away from what goes to the CDN. haul does so itself.
        headers["authorization"] = authorization
    # Without what it is in Xet storage, which the client would otherwise put into the store that caches share.
    return at_commit, etag, commit, size, None, error


def _download_to_tmp_and_move(client, original, *args, **kwargs):
    given = _arguments(original, args, kwargs)
    unknown = given.keys() - _EXPECTED["_download_to_tmp_and_move"] - _KNOWN
    if any(given[name] for name in unknown):
        # Such as the proxies of older versions.
        client.logger.warning("haul does not know %s: this file comes without it", ", ".join(sorted(unknown)))
        return original(*args, **kwargs)
    incomplete, destination, size = given["incomplete_path"], given["destination_path"], given["expected_size"]
    if destination.exists() and not given["force_download"]:
        return None
    if size is not None:
        client._check_disk_space(size, incomplete.parent)
        client._check_disk_space(size, destination.parent)
    etag = given["etag"] or ""
    with _Bar(client, given) as bar:
        haul.download(
            given["url_to_download"],
            incomplete,
            digest=f"sha256={etag}" if re.fullmatch("[0-9a-f]{64}", etag) else None,
            size=size,
            headers=given["headers"],
            # A name of the client's own, under its lock. What is there is not complete, or it had been moved.
            existing="overwrite",
            locked="wait",
            sync=_sync,
            on_progress=bar,
        )
    if re.fullmatch("[0-9a-f]{40}", etag):
        _check_small(incomplete, etag, given["filename"])
    client._chmod_and_move(incomplete, destination)
    return None


def _arguments(function, args, kwargs):
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _check_small(path, etag, filename):
    """Compares a file with an entity tag that is a git hash or, as with some mirrors of the hub, a SHA-1."""
    git = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    plain = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            git.update(piece)
            plain.update(piece)
    if etag not in (git.hexdigest(), plain.hexdigest()):
        os.unlink(path)
        raise haul.Error(
            f"{filename!r} is not what the hub announced: its git hash is {git.hexdigest()}, not {etag}; "
            "it was removed",
            code="digest-mismatch",
            retryable=True,
            hint="call again; should it stay so, the server or something before it changes files on their way",
        )


class _Bar:
    """The client's progress bar for one file. Called with each `haul.Progress`."""

    def __init__(self, client, given):
        self._client = client
        self._given = given
        self._context = self._bar = None
        self._bytes = 0
        incomplete = given["incomplete_path"]
        self._resumes = os.path.exists(f"{incomplete}.haul")

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if self._context is not None:
            self._context.__exit__(*failure)

    def __call__(self, progress):
        if self._bar is None:
            # Only now is it known what an earlier run has left, which is not to count as this one's speed.
            self._bytes = progress.bytes if self._resumes else 0
            self._context = self._create(progress.total_bytes, self._bytes)
            self._bar = self._context.__enter__()
        new = progress.bytes - self._bytes
        self._bytes = progress.bytes
        if new:
            self._bar.update(new)
            transferred = getattr(self._bar, "update_transfer", None)
            if callable(transferred):
                transferred(new)

    def _create(self, total, initial):
        name = self._given["filename"]
        told = {
            "desc": name if len(name) <= 40 else f"(…){name[-40:]}",
            "log_level": self._client.logger.getEffectiveLevel(),
            "total": total if self._given["expected_size"] is None else self._given["expected_size"],
            "initial": initial,
            "name": "huggingface_hub.http_get",
        }
        if "tqdm_class" in inspect.signature(self._client._get_progress_bar_context).parameters:
            told["tqdm_class"] = self._given.get("tqdm_class")
        return self._client._get_progress_bar_context(**told)


def _main():
    from importlib.metadata import distribution

    patch_huggingface_hub()
    entries = distribution("huggingface_hub").entry_points
    commands = {entry.name: entry for entry in entries if entry.group == "console_scripts"}
    # Older versions have it under the other name only.
    command = commands.get("hf") or commands["huggingface-cli"]
    sys.argv[0] = "hf"
    return command.load()()


if __name__ == "__main__":
    # Under its own name, so that there is one patch and not that of another module `__main__`.
    from haul.huggingface import _main as main

    sys.exit(main())
