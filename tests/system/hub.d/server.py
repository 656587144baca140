#!/usr/bin/env python3
"""A hub for the tests, which speaks enough of the Hugging Face Hub's API for its own client.

    server.py [--port PORT] [--cdn-port PORT] [--log FILE] [--lfs-from BYTES] [--set NAME=VALUE]...
              [--certificate PEM --key PEM] REPOSITORY=FOLDER[,private][,gated]...

REPOSITORY is `models/ORG/NAME`, or of `datasets` or `spaces`. Prints its URL when it listens: that of the hub
(127.0.0.1), and after a space that of the CDN (localhost), to which signed links of large files lead. The token
`hf_test` opens private repositories, and `hf_granted` also gated ones. While it runs:

    GET  /_test/log                         the log, a JSON object a line
    POST /_test/set?NAME=VALUE              changes a setting
    POST /_test/commit?repository=models/ORG/NAME&folder=FOLDER&branch=NAME    a new commit of all files there

The settings are the fields of `hub.Settings`. In Python, `with hub.Hub() as it` serves in threads of its own.
"""

import argparse
import threading

from hub import Hub
from repository import files_of


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cdn-port", type=int, default=0)
    parser.add_argument("--log")
    parser.add_argument("--lfs-from", type=int, default=10 << 20)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("repositories", nargs="*", metavar="REPOSITORY=FOLDER[,private][,gated]")
    given = parser.parse_args()
    hub = Hub(given.port, given.cdn_port, given.log, given.lfs_from, given.certificate, given.key)
    for text in given.repositories:
        name, _, rest = text.partition("=")
        folder, *how = rest.split(",")
        kind, name = name.split("/", 1)
        hub.add(kind, name, **{word: True for word in how}).commit(files_of(folder, given.lfs_from))
    for text in given.set:
        hub.settings.set(*text.split("=", 1))
    print(hub.url, hub.cdn_url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    hub.close()


if __name__ == "__main__":
    main()
