#!/usr/bin/env python3
"""A line of one rate that all connections share, with a round trip of its own.

    line.py PORT TARGET BYTES_PER_SECOND ROUND_TRIP_MS

Connections to PORT of 127.0.0.1 go on to TARGET there. Each direction takes half
of the round trip, a new connection a whole one more, as over TCP. What comes from
the target shares the rate: of the connections that have bytes to carry, one after
the other sends a packet. One that is closed goes on to fill the line for as long
as the news of it is on its way. There is no slow start. Prints a line when it
listens.
"""

import asyncio
import collections
import sys

PACKET_BYTES = 1448
# Of one connection, what waits for the line at most.
WINDOW_BYTES = 256 << 10


class Delay:
    """Does things later, in the order in which they were put off."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.things = collections.deque()

    def put_off(self, at, act, *with_what):
        self.things.append((at, act, with_what))
        if len(self.things) == 1:
            self.loop.call_at(at, self.catch_up)

    def catch_up(self):
        while self.things and self.things[0][0] <= self.loop.time() + 0.0005:
            _, act, with_what = self.things.popleft()
            act(*with_what)
        if self.things:
            self.loop.call_at(self.things[0][0], self.catch_up)


class Line:
    def __init__(self, rate, delay_s):
        self.rate = rate
        self.delay_s = delay_s
        self.turns = collections.deque()
        self.work = asyncio.Event()
        self.down = Delay()

    def wake(self, way):
        if way.queue and not way.has_turn:
            way.has_turn = True
            self.turns.append(way)
            self.work.set()

    async def carry(self):
        """Gives each connection that has bytes its turn, at the line's rate."""
        loop = asyncio.get_running_loop()
        free_at = loop.time()
        while True:
            if not self.turns:
                self.work.clear()
                await self.work.wait()
                # An idle line saves nothing up.
                free_at = max(free_at, loop.time())
            if free_at > loop.time():
                await asyncio.sleep(free_at - loop.time())
            way = self.turns.popleft()
            way.has_turn = False
            piece = way.take()
            free_at += len(piece) / self.rate
            self.down.put_off(free_at + self.delay_s, way.arrive, piece)
            self.wake(way)


class Way:
    """What goes from the target to one client."""

    def __init__(self, line, client):
        self.line = line
        self.client = client
        self.queue = bytearray()
        self.has_turn = False
        self.room = asyncio.Event()

    def take(self):
        piece = bytes(self.queue[:PACKET_BYTES])
        del self.queue[:PACKET_BYTES]
        self.room.set()
        return piece

    def arrive(self, piece):
        if not self.client.is_closing():
            self.client.write(piece)

    async def fill(self, target):
        while piece := await target.read(16 << 10):
            self.queue += piece
            self.line.wake(self)
            while len(self.queue) >= WINDOW_BYTES:
                self.room.clear()
                await self.room.wait()
        while self.queue:
            self.room.clear()
            await self.room.wait()
        at = self.line.down.loop.time() + self.line.delay_s
        self.line.down.put_off(at, self.client.close)


async def connect(line, target_port, reader, writer):
    up = Delay()
    # The handshake, before the first bytes are sent.
    ready_at = up.loop.time() + 2 * line.delay_s
    target_reader, target = await asyncio.open_connection("127.0.0.1", target_port)
    way = Way(line, writer)
    filling = asyncio.create_task(way.fill(target_reader))

    def send(piece):
        if not target.is_closing():
            target.write(piece)

    def close():
        filling.cancel()
        way.queue.clear()
        target.close()
        writer.close()

    try:
        while piece := await reader.read(16 << 10):
            up.put_off(max(up.loop.time(), ready_at) + line.delay_s, send, piece)
    except ConnectionError:
        pass
    up.put_off(max(up.loop.time(), ready_at) + line.delay_s, close)


async def main():
    port, target, rate, round_trip_ms = (int(word) for word in sys.argv[1:])
    line = Line(rate, round_trip_ms / 2000)
    carrying = asyncio.create_task(line.carry())

    async def accept(reader, writer):
        try:
            await connect(line, target, reader, writer)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    print("listening", flush=True)
    async with server:
        await carrying


asyncio.run(main())
