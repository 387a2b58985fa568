"""The ladder: six ways to serve the same clips, from a channel per call and a loop in the client to continuous batching."""

RUNGS = {
    "channel_per_call": "a channel per call, loop in the client, vendor graphs",
    "pooled": "a channel of the client's pool per call, loop in the client, vendor graphs",
    "bls": "loop in Triton by BLS, vendor graphs",
    "in_process": "loop in Triton in-process, vendor graphs",
    "clean": "the same with the clean graphs",
    "continuous": "continuous batching (asr_ensemble)",
}
"""The arms of the ladder, and the names of their rows."""

PEERS = {
    "vendor_runtime": "the vendor's C++ runtime (moonshine-voice), no server",
    "fastapi": "FastAPI with a thread pool on the clean graphs",
}
"""Other ways to run the same model, each in an environment of its own; measured as further arms."""

MODELS = {
    "bls": "ladder_bls",
    "in_process": "ladder_in_process",
    "clean": "ladder_clean",
    "continuous": "asr_ensemble",
}
"""The model that a caller of each asks; on the others it calls encoder and decoder itself."""
