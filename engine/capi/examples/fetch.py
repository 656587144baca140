#!/usr/bin/env python3
"""Fetches a URL into a file through libhaul_capi, by ctypes alone.

    HAUL_LIBRARY=target/release/libhaul_capi.so python3 engine/capi/examples/fetch.py URL FILE

It reads the object's last bytes while the rest still comes, pauses for a moment, and goes on.
Ctrl-C stops it; the same command continues.
"""

import ctypes as c
import os
import sys
import time

OK, PENDING = 0, -1
PAUSED = 2  # HAUL_STATE_PAUSED
SEEK_END = 2


class Progress(c.Structure):
    _fields_ = [
        ("bytes", c.c_uint64),
        ("total_bytes", c.c_int64),
        ("bytes_per_second", c.c_double),
        ("mean_bytes_per_second", c.c_double),
        ("eta_milliseconds", c.c_int64),
        ("connections", c.c_uint32),
        ("retries", c.c_uint32),
        ("state", c.c_int32),
        ("reserved", c.c_int32),
    ]


class Error(c.Structure):
    _fields_ = [
        ("code", c.c_int32),
        ("http_status", c.c_int32),
        ("message", c.c_char_p),
        ("hint", c.c_char_p),
        ("checkpoint", c.c_char_p),
        ("resumable", c.c_bool),
    ]


class Event(c.Structure):
    _fields_ = [
        ("kind", c.c_int32),
        ("code", c.c_int32),
        ("attempt", c.c_uint32),
        ("resumable", c.c_uint32),
        ("wait_milliseconds", c.c_uint64),
        ("lost", c.c_uint64),
        ("word", c.c_char_p),
        ("message", c.c_char_p),
    ]

    # HAUL_EVENT_*
    NAMES = {1: "started", 5: "paused", 6: "resumed", 9: "complete", 10: "failed"}


class HaulError(Exception):
    def __init__(self, error):
        super().__init__(error.message.decode())
        self.code = error.code
        self.hint = error.hint.decode() if error.hint else None
        self.checkpoint = os.fsdecode(error.checkpoint) if error.checkpoint else None


def load(path):
    """The library, with the types of what is called here: without them ctypes cuts pointers."""
    library = c.CDLL(path)
    handle, out, text = c.c_void_p, c.POINTER(c.c_void_p), c.c_char_p
    size, size_out = c.c_size_t, c.POINTER(c.c_size_t)
    codes = {
        "haul_engine_new": [handle, out],
        "haul_options_new": [handle, text, out],
        "haul_options_set_output": [handle, text],
        "haul_download_start": [handle, out],
        "haul_download_progress": [handle, c.POINTER(Progress), size],
        "haul_download_next_event": [handle, c.c_int64, c.POINTER(c.POINTER(Event))],
        "haul_download_wait": [handle, c.c_int64],
        "haul_download_pause": [handle],
        "haul_download_resume": [handle],
        "haul_download_cancel": [handle],
        "haul_download_output": [handle, out],
        "haul_download_blake3": [handle, out],
        "haul_reader_open": [handle, out],
        "haul_reader_seek": [handle, c.c_int64, c.c_int32, c.POINTER(c.c_uint64)],
        "haul_reader_read": [handle, c.c_void_p, size, size_out],
    }
    library.haul_last_error.restype = c.POINTER(Error)
    library.haul_version.restype = c.c_char_p

    def checked(code, _function, _arguments):
        if code > 0:
            raise HaulError(library.haul_last_error().contents)
        return code

    for name, arguments in codes.items():
        function = getattr(library, name)
        function.argtypes, function.restype, function.errcheck = arguments, c.c_int32, checked
    library.haul_event_free.argtypes = [c.POINTER(Event)]
    library.haul_event_free.restype = None
    for name in ("engine", "options", "download", "reader", "string"):
        function = getattr(library, f"haul_{name}_free")
        function.argtypes, function.restype = [handle], None
    return library


def given(library, function, *arguments):
    """A string that a function gives out, or None."""
    place = c.c_void_p()
    function(*arguments, c.byref(place))
    try:
        return os.fsdecode(c.string_at(place.value)) if place.value else None
    finally:
        library.haul_string_free(place)


def tell_events(library, download):
    """Prints what has happened since the last time."""
    event = c.POINTER(Event)()
    while library.haul_download_next_event(download, 0, c.byref(event)) == OK and event:
        told = event.contents
        if told.kind in Event.NAMES:
            print(Event.NAMES[told.kind])
        elif told.message:
            print(told.message.decode(), file=sys.stderr)
        library.haul_event_free(event)


def read_end(library, download, wanted):
    """The last bytes of the object, fetched before the rest."""
    reader, count = c.c_void_p(), c.c_size_t()
    buffer = c.create_string_buffer(wanted)
    library.haul_reader_open(download, c.byref(reader))
    try:
        library.haul_reader_seek(reader, -wanted, SEEK_END, None)
        read = b""
        while len(read) < wanted:
            library.haul_reader_read(reader, buffer, wanted - len(read), c.byref(count))
            if count.value == 0:
                break
            read += buffer.raw[: count.value]
        return read
    finally:
        library.haul_reader_free(reader)


def pause(library, download):
    """Pauses until nothing comes any more; whether it did, since it may be complete."""
    library.haul_download_pause(download)
    now = Progress()
    while library.haul_download_wait(download, 20) == PENDING:
        library.haul_download_progress(download, c.byref(now), c.sizeof(now))
        if now.state == PAUSED:
            print(f"paused at {now.bytes} of {now.total_bytes} bytes")
            return True
    return False


def fetch(library, url, file):
    engine, options, download = c.c_void_p(), c.c_void_p(), c.c_void_p()
    try:
        library.haul_engine_new(None, c.byref(engine))
        library.haul_options_new(engine, url.encode(), c.byref(options))
        library.haul_options_set_output(options, os.fsencode(file))
        library.haul_download_start(options, c.byref(download))

        print(f"it ends with {read_end(library, download, 8).hex()}")
        if pause(library, download):
            time.sleep(0.1)
            library.haul_download_resume(download)

        try:
            # Short waits, so that Python can raise KeyboardInterrupt between them.
            while library.haul_download_wait(download, 200) == PENDING:
                now = Progress()
                tell_events(library, download)
                library.haul_download_progress(download, c.byref(now), c.sizeof(now))
                print(f"{now.bytes} of {now.total_bytes} bytes", file=sys.stderr)
        except KeyboardInterrupt:
            library.haul_download_cancel(download)
            library.haul_download_wait(download, -1)  # raises what it ended with
        tell_events(library, download)
        path = given(library, library.haul_download_output, download)
        digest = given(library, library.haul_download_blake3, download)
        print(f"{path}: blake3 {digest}")
    finally:
        library.haul_download_free(download)
        library.haul_options_free(options)
        library.haul_engine_free(engine)


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} URL FILE")
    library = load(os.environ.get("HAUL_LIBRARY", "libhaul_capi.so"))
    try:
        fetch(library, sys.argv[1], sys.argv[2])
    except HaulError as error:
        print(error, file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        if error.checkpoint:
            print(f"the same command continues from {error.checkpoint}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
