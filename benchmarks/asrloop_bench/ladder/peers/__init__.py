"""Other ways to run the same model, each in an environment of its own; measured as further arms of the ladder."""

PEERS = {
    "vendor_runtime": "the vendor's C++ runtime (moonshine-voice), no server",
    "fastapi": "FastAPI with a thread pool on the clean graphs",
}
