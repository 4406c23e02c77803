"""TCP through which only so much passes: a peer that is far away or slow.

    throttle.py PORT:MIB_PER_S[:DELAY_MS]...

Each is a port of 127.0.0.1 that leads to PORT; what comes back from it is held to that rate and comes that much later. Prints `port N` for each in order,
then `ready`; serves until SIGTERM.
"""
import asyncio, contextlib, sys

PIECE = 64 << 10
# Read from the far side and not yet passed on, in bytes: what lies "on the wire".
WINDOW = 1 << 20


async def back(reader, writer, rate, delay):
    """What comes from the far side, held to the rate and delayed."""
    clock, queue = asyncio.get_running_loop(), asyncio.Queue(max(2, int((WINDOW + rate * delay) / PIECE)))

    async def pass_on():
        free = 0.0
        while (item := await queue.get()) is not None:
            due, data = item
            free = max(free, clock.time() - 0.05)  # a little may be made good, not more
            free += len(data) / rate
            wait = max(due, free) - clock.time()
            if wait > 0: await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError): writer.write_eof()

    task = asyncio.create_task(pass_on())
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE): await queue.put((clock.time() + delay, data))
    await queue.put(None)
    await task


async def forth(reader, writer, delay):
    while data := await reader.read(PIECE):
        if delay: await asyncio.sleep(delay)
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError): writer.write_eof()


async def serve(port, rate, delay):
    async def one(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(back(far_reader, writer, rate, delay), forth(reader, far_writer, delay))
        except OSError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(NameError): far_writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    return server


async def main():
    servers = []
    for word in sys.argv[1:]:
        port, rate, *delay = word.split(":")
        servers.append(await serve(int(port), float(rate) * (1 << 20), float(delay[0]) / 2000 if delay else 0))
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
