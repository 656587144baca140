"""The server that a fleet fetches from: it remembers to whom it sent what, and when."""

import collections
import time

from origin import Origin, content

STEP = 16 << 10

# What a connection holds before it is stored, at most: a segment of objects as large as those here.
SEGMENT = 1 << 20


class Response:
    """The body of one response, as far as the socket took it: (time, bytes) for each step."""

    def __init__(self, port, path, size):
        self.port = port
        self.path = path
        self.size = size
        self.steps = []

    def sent(self, since=0.0):
        return sum(size for at, size in list(self.steps) if at >= since)


class Ledger(Origin):
    """An origin with a ledger of all bodies.

    `once` are paths that answer 503 the first time. `slow` has bytes a second for some paths, which do not count
    towards `rate`.
    """

    def __init__(self, objects, rate):
        super().__init__(objects)
        self.rate = rate
        self.once = set()
        self.slow = {}
        self.responses = []
        self._slow_until = collections.defaultdict(float)

    def reset(self):
        """Forgets what was sent, and refuses and slows nothing."""
        self.once, self.slow, self.refused = set(), {}, {}
        self.served.clear()
        self.requests.clear()
        self.responses.clear()

    def sent(self, ports=None):
        """Bytes of bodies that sockets took, all or those to these ports."""
        return sum(response.sent() for response in list(self.responses) if ports is None or response.port in ports)

    def at_risk(self, connections, ended, window):
        """The most bytes that may be fetched again when the process that had these connections ended then: those of
        the last moments, `window` seconds, which are not recorded yet, and those on the way. That is all of a small
        object that is incomplete, and of a larger one a segment and what waits in the socket.

        `connections` has the bytes that wait, by port."""
        total = 0
        for response in list(self.responses):
            if response.port in connections:
                whole, last = response.sent(), response.sent(ended - window)
                waiting = connections[response.port]
                on_the_way = SEGMENT + waiting if whole < response.size or waiting else 0
                total += last + min(on_the_way, whole - last)
        return total

    def fetched_again(self, connections):
        """Of the objects that went over these connections: the bytes that they have, and those that were sent, over
        all connections."""
        responses = list(self.responses)
        paths = {response.path for response in responses if response.port in connections}
        sent = sum(response.sent() for response in responses if response.path in paths)
        return sum(len(self.objects[path]) for path in paths), sent

    def _status(self, path):
        with self._lock:
            if path in self.once:
                self.once.remove(path)
                return 503
        return super()._status(path)

    def _send(self, request, path, body):
        response = Response(request.client_address[1], path, len(body))
        self.responses.append(response)
        for start in range(0, len(body), STEP):
            piece = body[start : start + STEP]
            slow = self.slow.get(path)
            time.sleep(max(0, self._turn(len(piece)) if slow is None else self._slow_turn(path, len(piece), slow)))
            request.wfile.write(piece)
            response.steps.append((time.monotonic(), len(piece)))

    def _slow_turn(self, path, size, rate):
        with self._lock:
            now = time.monotonic()
            self._slow_until[path] = max(self._slow_until[path], now) + size / rate
            return self._slow_until[path] - now


def objects(small, large, large_bytes):
    """Objects of 200 KB, and some larger ones among them."""
    found = {f"/small-{at:03}.bin": content(at, 200_000) for at in range(small)}
    found.update({f"/large-{at}.bin": content(1000 + at, large_bytes) for at in range(large)})
    return found
