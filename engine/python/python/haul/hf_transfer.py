"""The interface of the package ``hf_transfer``, for programs that call it.

>>> import sys, haul.hf_transfer
>>> sys.modules["hf_transfer"] = haul.hf_transfer   # doctest: +SKIP

Versions of ``huggingface_hub`` before 1.0 then take haul where ``HF_HUB_ENABLE_HF_TRANSFER`` is set; for all versions
`haul.patch_huggingface_hub` does more. ``multipart_upload`` is not offered, since haul only downloads: uploads need
the real package, or the variable unset.
"""

from __future__ import annotations

import haul

__all__ = ["download"]


def download(url, filename, max_files, chunk_size, parallel_failures=0, max_retries=0, headers=None, callback=None):
    """Downloads a URL to a file, which is replaced once the new one is complete.

    Args:
        url: an http or https URL.
        filename: the path of the file.
        max_files, chunk_size, parallel_failures, max_retries: have no effect. haul finds by itself how many connections
            help and what each fetches, and retries with pauses.
        headers: a mapping of request headers, for the URL's own origin.
        callback: called with the number of bytes that are new since the last call. All calls together come to the
            size of the object, also where a part of it was there from an earlier call.

    Raises:
        haul.Error: when the download failed. The same call continues it.
    """
    told = 0

    def on_progress(progress):
        nonlocal told
        # A download that starts over has fewer bytes for a while.
        if progress.bytes > told:
            new, told = progress.bytes - told, progress.bytes
            callback(new)

    haul.download(
        url,
        filename,
        headers=headers,
        existing="overwrite",
        locked="wait",
        on_progress=None if callback is None else on_progress,
    )
