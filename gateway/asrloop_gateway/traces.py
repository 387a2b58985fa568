"""Headers of W3C Trace Context, passed on so that the servers' spans belong to the caller's trace.

They are checked by its form (https://www.w3.org/TR/trace-context/) and dropped where they do not have it: gRPC refuses a whole
request for one bad byte, or for large headers.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers

_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-[!-~]{0,200})?"
)
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_*/-]{0,240}(@[a-z][a-z0-9_*/-]{0,13}|[a-z0-9_*/-]{0,15})=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_MOST_MEMBERS, _STATE_CHARACTERS = 32, 4096
"""gRPC takes 8 kB of headers in all."""


def trace_headers(headers: Headers) -> dict[str, str]:
    """Return the headers `traceparent` and `tracestate` to pass on, neither where the first is not well-formed."""
    parents = headers.getlist("traceparent")
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or (found["version"] == "00" and found["more"]):
        return {}
    state = ",".join(headers.getlist("tracestate"))
    members = [each.strip(" \t") for each in state[: _STATE_CHARACTERS + 1].split(",")]
    members = [each for each in members if each]
    holds = (
        len(state) <= _STATE_CHARACTERS
        and 0 < len(members) <= _MOST_MEMBERS
        and all(map(_MEMBER.fullmatch, members))
        and len({each.partition("=")[0] for each in members}) == len(members)
    )
    return {"traceparent": parents[0]} | ({"tracestate": ",".join(members)} if holds else {})
