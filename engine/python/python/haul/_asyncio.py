"""The functions for asyncio. The event loop never waits, and no thread does for it."""

from __future__ import annotations

import asyncio

from haul import _haul
from haul._types import Error

# How often a progress is told, in seconds.
_INTERVAL = 0.1


def _settle(future, result, error):
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _settling(future):
    """What another thread calls to end the wait for the future."""
    loop = future.get_loop()

    def call(result, error=None):
        if isinstance(result, Error):
            result, error = None, result
        try:
            loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            # The loop was closed: nobody waits any more.
            pass

    return call


async def download(wanted, on_progress):
    ended = asyncio.get_running_loop().create_future()
    running = _haul.start(wanted, _settling(ended))
    try:
        if on_progress is None:
            return await ended
        while not ended.done():
            await asyncio.wait([ended], timeout=_INTERVAL)
            progress = running.progress()
            if progress is not None:
                on_progress(progress)
        return ended.result()
    finally:
        running.stop()


async def each(many, items):
    loop = asyncio.get_running_loop()
    try:
        many.fill(items)
        while True:
            taken = loop.create_future()
            many.take_soon(_settling(taken))
            results = await taken
            if not results:
                return
            for result in results:
                many.fill(items)
                yield result
    finally:
        many.close()
