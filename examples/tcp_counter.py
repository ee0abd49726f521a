"""One server per connection: each client has a counter of its own, and what it breaks is its own connection.

    python examples/tcp_counter.py              # prints the port
    nc 127.0.0.1 PORT                           # then type numbers: each line is answered with their sum

A line that is no number crashes the counter of that client, and nothing else.
"""

import asyncio
import sys
from dataclasses import dataclass

from beamish import GenServer, Supervisor, call, run, supervise

connections = Supervisor("connections")


@dataclass
class State:
    writer: asyncio.StreamWriter
    sum: int = 0


class Connection(GenServer[State], restart="temporary"):
    """Ends with its client; nobody could go on where it stopped, so it is not restarted."""

    def init(self, writer: asyncio.StreamWriter) -> State:
        return State(writer)

    @call
    async def line(self, state: State, text: str) -> None:
        state.sum += int(text)
        state.writer.write(b"%d\n" % state.sum)
        await state.writer.drain()


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What asyncio runs for each client: lines go to its server until one of the two ends."""
    server: Connection = await connections.start_child(Connection.child_spec(writer).replace(id=object()))
    try:
        while line := await reader.readline():
            await server.line(line.decode())
        await server.stop()
    except Exception as error:
        writer.write(f"sorry: {error.__cause__ or error}\n".encode())
    finally:
        writer.close()


async def main(port: int = 0) -> None:
    async with supervise([connections.child_spec([])]):
        listening = await asyncio.start_server(accept, "127.0.0.1", port, limit=1000)
        try:
            print(f"listening on 127.0.0.1 port {listening.sockets[0].getsockname()[1]}", flush=True)
            await asyncio.Event().wait()
        finally:
            listening.close()


if __name__ == "__main__":
    run(lambda: main(*map(int, sys.argv[1:])))
