"""blocking_client.py HOST:GRPC_PORT FILE...: one client for all threads; files, bytes and arrays go in, transcripts come out."""

import sys

from asrloop_client import AsrClient, InvalidAudio, Overloaded

address, *files = sys.argv[1:]
with AsrClient(address, timeout=30) as client:
    for file in files:
        try:
            transcript = client.transcribe(file)
        except InvalidAudio as error:  # the message says what is wrong and how to fix it
            sys.exit(f"{file}: {error}")
        except Overloaded:  # after the client's own retries
            sys.exit("the server is busy: try again later, or add a server")
        print(transcript.text)
