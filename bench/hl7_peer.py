"""A peer for `bench.acknowledge`: python-hl7's own MLLP server, as one would write it to keep what is acknowledged.

    python -m bench.hl7_peer PORT DATABASE

It parses each message, commits it to SQLite (WAL, synchronous=FULL), and answers with the library's ``create_ack``. The
event loop is uvloop, as ours is, so that the loop is not what is compared.
"""

import asyncio
import sqlite3
import sys

import hl7
import uvloop
from hl7.mllp import start_hl7_server


async def serve(port: int, path: str) -> None:
    database = sqlite3.connect(path)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"pragma {pragma}")
    database.execute("create table if not exists messages (id integer primary key, control_id text, content blob)")

    async def converse(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
        try:
            while True:
                message = await reader.readmessage()
                with database:
                    database.execute("insert into messages (control_id, content) values (?, ?)",
                                     (str(message.segment("MSH")[10]), str(message).encode("latin-1")))  # fmt: skip
                writer.writemessage(message.create_ack())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await start_hl7_server(converse, "127.0.0.1", port, encoding="latin-1")  # takes any byte
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
