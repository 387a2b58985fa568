"""The command `asr-client`; says how to install what it needs when that is missing."""

import importlib.util
import sys


def main() -> None:
    """Run the command line."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"asr-client needs {' and '.join(missing)}: pip install 'asrloop-client[cli]'")
    from asrloop_client.cli import app

    app()


if __name__ == "__main__":
    main()
