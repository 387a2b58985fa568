"""What callers share, without a server: memory for uploads, and headers that are passed on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from asrloop_gateway.budget import Budget
from asrloop_gateway.traces import trace_headers
from starlette.datastructures import Headers

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def test_clips_pass_while_larger_uploads_wait_among_themselves() -> None:
    async def run() -> None:
        budget, order = Budget(1000), list[str]()

        async def hold(name: str, size: int, seconds: float = 5) -> None:
            async with budget.share(size, name, seconds):
                order.append(name)
                await asyncio.sleep(0.01)

        async with AsyncExitStack() as large:
            for size in (5000, 30, 30, 30, 30, 30, 30):
                await large.enter_async_context(budget.share(size, "large", 5))
            waiting = asyncio.create_task(hold("next", 100))
            await asyncio.gather(*(hold("clip", 1) for _ in range(20)))
            with pytest.raises(TimeoutError):
                await hold("impatient", 100, 0.01)
        await waiting
        assert order == ["clip"] * 20 + ["next"]

    asyncio.run(run())


def test_whoever_holds_least_is_next_and_the_limit_holds() -> None:
    async def run() -> list[str]:
        budget, order, held, most = Budget(1000), list[str](), 0, 0

        async def hold(name: str, size: int) -> None:
            nonlocal held, most
            async with budget.share(size, name, 5):
                order.append(name)
                held += size
                most = max(most, held)
                await asyncio.sleep(0.01)
                held -= size

        tasks = [asyncio.create_task(hold(name, 370)) for name in "aaaab"]
        await asyncio.sleep(0.005)
        tasks.append(asyncio.create_task(hold("c", 400)))
        await asyncio.sleep(0)
        tasks[-1].cancel()  # who stops waiting takes nothing along
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 750
        return order

    assert asyncio.run(run()) == list("aabaa")


def test_who_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    async def run() -> None:
        budget = Budget(1000)
        first = budget.share(750, "a", 5)
        await first.__aenter__()
        second = asyncio.create_task(budget.share(750, "b", 5).__aenter__())
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        async with budget.share(750, "c", 0.1):
            pass

    asyncio.run(run())


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([("traceparent", PARENT), ("tracestate", "a=1, b@c=x y")], {"traceparent": PARENT, "tracestate": "a=1,b@c=x y"}),
        ([("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")], {"traceparent": PARENT, "tracestate": "a=1,b=2"}),
        ([("traceparent", f"01{PARENT[2:]}-more")], {"traceparent": f"01{PARENT[2:]}-more"}),
        ([("traceparent", PARENT), ("tracestate", "a=1,a=2")], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("tracestate", "A=1")], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("tracestate", "a=\xff")], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("tracestate", "a=" + "x" * 257)], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("tracestate", ",".join(f"a{n}=1" for n in range(33)))], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("tracestate", "," * 5000 + "a=1")], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("tracestate", "")], {"traceparent": PARENT}),
        ([("traceparent", PARENT), ("traceparent", PARENT)], {}),
        ([("traceparent", f"{PARENT}-more")], {}),
        ([("traceparent", f"ff{PARENT[2:]}")], {}),
        ([("traceparent", PARENT.replace("a", "0"))], {}),
        ([("traceparent", PARENT.replace("b", "0"))], {}),
        ([("traceparent", PARENT.upper())], {}),
        ([("traceparent", f"{PARENT}\t")], {}),
        ([("tracestate", "a=1")], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_trace_headers_have_the_form_of_the_standard_or_are_dropped(
    given: list[tuple[str, str]], passed: dict[str, str]
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given]
    assert trace_headers(Headers(raw=raw)) == passed
