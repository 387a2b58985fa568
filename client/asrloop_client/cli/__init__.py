"""The command `asr-client`. Results go to standard output, everything else to standard error."""

import sys

try:
    import rich as rich
    import typer
except ModuleNotFoundError:
    sys.exit("asr-client needs typer and rich: pip install 'asrloop-client[cli]'")

from asrloop_client.cli.connection import with_connection_options
from asrloop_client.cli.health import health
from asrloop_client.cli.models import models
from asrloop_client.cli.stream import stream
from asrloop_client.cli.transcribe import transcribe

app = typer.Typer(
    name="asr-client",
    help="Transcribe audio files and live audio with asrloop servers, and check the servers.",
    epilog="Exit codes: 0 success, 1 a file failed or a model is not ready, 2 wrong usage, 3 no server can be reached.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (transcribe, stream, health, models):
    app.command()(with_connection_options(command))
