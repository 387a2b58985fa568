"""asyncio_client.py HOST:GRPC_PORT FILE...: four files at a time, results in the order of the files."""

import asyncio
import sys

from asrloop_client import AsyncAsrClient


async def main(address: str, *files: str) -> None:
    """Print the text of each file."""
    async with AsyncAsrClient(address) as client:
        async for transcript in client.transcribe_many(files, concurrency=4):
            print(transcript.text)


asyncio.run(main(*sys.argv[1:]))
