"""Stands in front of an S3 server and breaks some requests, as a bucket far away may.

    faulty_s3.py HOST:PORT --rate 0.03 --seed 1

Prints its port. Reads lines: `on` and `off` begin and end the faults; the end of the input ends it, and how often each fault
came is printed as JSON. The signatures stay right, for the Host header passes unchanged.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
from collections import Counter

PIECE = 1 << 16
SLOW_DOWN = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>"
INTERNAL = b"<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>an error of the tests</Message></Error>"
# what happens to a request
FAULTS = (
    "500",  # answered without being done
    "503",
    "500 though done",
    "no answer though done",
    "request cut",  # in the middle of its body
    "answer cut",
    "slow",
)


class Broken(Exception):
    """The connection is at its end."""


class Proxy:
    def __init__(self, to, rate, seed):
        self.to, self.rate, self.random = to, rate, random.Random(seed)
        self.on, self.counts = False, Counter()

    async def serve(self, reader, writer):
        upstream = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, Broken):
            while True:
                head = await self.head(reader)
                if upstream is None:
                    upstream = await asyncio.open_connection(*self.to)
                fault = self.random.choice(FAULTS) if self.on and self.random.random() < self.rate else None
                if fault:
                    self.counts[fault] += 1
                await self.one(head, fault, reader, writer, *upstream)
        for side in [writer, *([upstream[1]] if upstream else [])]:
            side.close()

    async def one(self, head, fault, reader, writer, from_server, to_server):
        """Passes one request and its answer."""
        length = int(header(head, b"content-length") or 0)
        chunked = b"chunked" in (header(head, b"transfer-encoding") or b"")
        if fault in ("500", "503"):
            await self.copy(reader, None, length, chunked)
            await self.say(writer, fault)
            return
        if fault == "slow":
            await asyncio.sleep(self.random.uniform(0.3, 3))
        to_server.write(head)
        if fault == "request cut":
            await self.copy(reader, to_server, length // 2, False)
            raise Broken
        await self.copy(reader, to_server, length, chunked)
        answer = await self.head(from_server)
        if answer.startswith(b"HTTP/1.1 100"):
            writer.write(answer)
            answer = await self.head(from_server)
        status = answer.split(b" ", 2)[1]
        no_body = head.startswith(b"HEAD") or status in (b"204", b"304")
        length = 0 if no_body else int(header(answer, b"content-length") or 0)
        chunked = not no_body and b"chunked" in (header(answer, b"transfer-encoding") or b"")
        if fault in ("500 though done", "no answer though done"):
            await self.copy(from_server, None, length, chunked)
            if fault == "no answer though done":
                raise Broken
            await self.say(writer, "500")
            return
        writer.write(answer)
        if fault == "answer cut":
            await self.copy(from_server, writer, length // 2, False)
            await writer.drain()
            raise Broken
        await self.copy(from_server, writer, length, chunked)
        await writer.drain()

    async def say(self, writer, fault):
        status, body = (b"503 Slow Down", SLOW_DOWN) if fault == "503" else (b"500 Internal Server Error", INTERNAL)
        writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()

    async def head(self, reader):
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Broken from error

    async def copy(self, source, to, length, chunked):
        """A body, as it is."""
        if chunked:
            while True:
                line = await source.readline()
                size = int(line.split(b";")[0], 16)
                data = line + await source.readexactly(size + 2)
                await self.pass_on(to, data)
                if size == 0:
                    return
        while length:
            data = await source.read(min(length, PIECE))
            if not data:
                raise Broken
            length -= len(data)
            await self.pass_on(to, data)

    async def pass_on(self, to, data):
        if to is not None:
            to.write(data)
            await to.drain()


def header(head, name):
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("to")
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    host, port = options.to.split(":")
    proxy = Proxy((host, int(port)), options.rate, options.seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        proxy.on = line.strip() == "on"
    print(json.dumps(proxy.counts), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
