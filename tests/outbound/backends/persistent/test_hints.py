import asyncio

from tidegate.outbound.backends.persistent.hints import HINTS, KeptHints


async def test_each_name_is_told_once_in_the_order_of_its_first_mention() -> None:
    hints = KeptHints()
    for name in "abca":
        hints.add(name)
    taken = hints.taken()
    assert [await anext(taken) for _ in range(3)] == ["a", "b", "c"]
    hints.add("a")
    assert await anext(taken) == "a"


async def test_who_is_told_of_everything_is_not_told_of_each() -> None:
    hints = KeptHints()
    for name in ("a", None, "b", None):
        hints.add(name)
    taken = hints.taken()
    assert await anext(taken) is None
    hints.add("c")
    assert await anext(taken) == "c"


async def test_too_many_names_stand_for_everything() -> None:
    hints = KeptHints()
    for number in range(HINTS):
        hints.add(str(number))
    hints.add("0")  # no new one
    taken = hints.taken()
    assert await anext(taken) == "0"
    hints.add("one more")
    hints.add("and more")
    assert await anext(taken) is None


async def test_taking_ends_with_the_hints_and_may_be_cancelled_and_begun_again() -> None:
    hints = KeptHints()

    async def first() -> str | None:
        return await anext(hints.taken())

    waiting = asyncio.create_task(first())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    hints.add("a")
    taken = hints.taken()
    assert await anext(taken) == "a"
    hints.add("b")
    hints.end()
    assert [name async for name in taken] == []
