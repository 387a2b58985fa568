"""python -m asrloop_client.cli"""

from asrloop_client.cli import app

app()
