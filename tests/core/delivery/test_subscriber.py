from typing import Any

import pytest
from fanout import EPOCH, NOW, WALL, Fabric, FakeChannel, event, interest, types

from tidegate.core.delivery.outbox import COUNTED_TYPES, OTHER_TYPES, QUEUE
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.delivery.subscriber import PIECE_BYTES, Subscriber
from tidegate.core.events import Position
from tidegate.core.instant import Instant

HELLO = b'\x81\x10{"type":"hello"}'
KB = "x" * 1000


def feed(
    subscriber: Subscriber,
    fabric: Fabric,
    *patterns: str,
    since: int | None = None,
    names: bool = False,
    synced_from: int | None = None,
) -> None:
    position = fabric.position if since is None else Position(EPOCH, since)
    subscriber.feed(
        HELLO,
        interest=interest(*patterns),
        names=[(e.type, e.key or "") for e in fabric.retained.events()] if names else (),
        position=position,
        synced_from=position.seq if names and synced_from is None else synced_from,
        now=NOW,
    )


def seqs(channel: FakeChannel) -> list[int]:
    return [message["seq"] for message in channel.received() if "seq" in message]


class TestLive:
    def test_hears_what_is_published_after_it_joined(self) -> None:
        fabric = Fabric()
        fabric.publish("a")
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, "a")
        fabric.publish("a")
        fabric.publish("b")
        fabric.publish("a")
        received = channel.received()
        assert types(received) == ["hello", "a", "a"]
        assert [m.get("seq") for m in received] == [None, 2, 4]
        assert subscriber.is_live
        assert subscriber.delivered == 2

    def test_a_message_of_its_own_comes_after_what_was_published_before(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, "*")
        fabric.publish("a", flush=False)
        subscriber.send(HELLO)
        fabric.hub.flush()
        assert types(channel.received()) == ["hello", "a", "hello"]

    def test_changes_its_interest_without_losing_or_repeating_what_is_pending(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, "a")
        fabric.publish("a", flush=False)
        fabric.publish("b", flush=False)
        feed(subscriber, fabric, "b")
        fabric.publish("a", flush=False)
        fabric.publish("b", flush=False)
        fabric.hub.flush()
        received = channel.received()
        assert types(received) == ["hello", "a", "hello", "b"]
        assert received[-1]["seq"] == 4
        assert subscriber.delivered == 2

    def test_shares_what_it_wants_with_all_who_want_the_same(self) -> None:
        fabric = Fabric()
        subscribers = [fabric.subscriber()[0] for _ in range(2)]
        for subscriber in subscribers:
            feed(subscriber, fabric, "a", "b.*")
        one, other = subscribers
        assert one.interest is other.interest, "else ten thousand clients hold ten thousand copies"

    def test_hears_nothing_after_it_was_detached(self) -> None:
        fabric = Fabric()
        subscriber, channel, reasons = fabric.subscriber(limits=SendLimits(hard_bytes=0, grace_s=0))
        feed(subscriber, fabric, "*")
        subscriber.detach()
        fabric.publish("a")
        assert types(channel.received()) == ["hello"]
        assert not reasons
        assert len(fabric.hub) == 0


class TestSnapshots:
    def test_come_after_the_head_and_before_later_events(self) -> None:
        fabric = Fabric()
        fabric.publish("a", 1, retain=True)
        fabric.publish("b", 2, retain=True)
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, "*", names=True)
        fabric.publish("a", 3, retain=True)
        received = channel.received()
        assert [(m["type"], m.get("seq"), m.get("snapshot")) for m in received] == [
            ("hello", None, None),
            ("a", 1, True),
            ("b", 2, True),
            ("synced", None, None),
            ("a", 3, None),
        ]
        assert received[3]["data"] == {"epoch": EPOCH, "seq": 2}
        assert subscriber.delivered == 1

    def test_a_value_that_came_meanwhile_is_an_event_and_no_snapshot(self) -> None:
        fabric = Fabric()
        for key in map(str, range(100)):
            fabric.publish("a", KB, key=key, retain=True)
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, "*", names=True)
        fabric.publish("a", "newer", key="99", retain=True)
        fabric.publish("a", key="98", retain=True, gone=True)
        channel.unblock()
        received = channel.received()
        assert types(received) == ["hello"] + ["a"] * 100 + ["synced"]
        assert ["snapshot" in m for m in received] == [False] + [True] * 98 + [False] * 3
        assert [m["seq"] for m in received[-3:-1]] == [101, 102]


class TestSynced:
    """It vouches for everything up to its position: what a client that comes back with that would never get again."""

    def stalled(self, fabric: Fabric, *patterns: str, **how: Any) -> tuple[Subscriber, FakeChannel]:
        """A subscriber that was fed a first piece and reads no further."""
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, *patterns, **how)
        return subscriber, channel

    @pytest.mark.parametrize("names", [False, True])
    def test_comes_at_once_where_nothing_is_handed_over(self, names: bool) -> None:
        fabric = Fabric()
        fabric.publish("a")
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, names=names, synced_from=1)
        assert channel.writes == 1
        received = channel.received()
        assert types(received) == ["hello", "synced"]
        assert received[1] == {
            "type": "synced",
            "timestamp": "2026-11-22T21:40:03.123Z",
            "data": {"epoch": EPOCH, "seq": 1},
        }
        assert subscriber.delivered == 0
        assert subscriber.is_live

    def test_does_not_come_where_nothing_was_promised(self) -> None:
        fabric = Fabric()
        fabric.publish("a", retain=True)
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, "a")
        fabric.publish("a")
        assert types(channel.received()) == ["hello", "a"]

    def test_comes_after_a_replay_with_the_position_of_its_beginning(self) -> None:
        fabric = Fabric()
        for _ in range(300):
            fabric.publish("a", KB)
        _, channel = self.stalled(fabric, "a", since=0, synced_from=300)
        for _ in range(5):
            fabric.publish("a")
        channel.unblock()
        received = channel.received()
        assert [m["seq"] if "seq" in m else m["data"]["seq"] for m in received[1:]] == [
            *range(1, 301),
            300,
            *range(301, 306),
        ]
        assert types(received).index("synced") == 301

    def test_comes_after_what_changed_while_the_snapshots_were_written(self) -> None:
        """What is skipped as a snapshot comes as an event: whoever is cut off between the two must not count it."""
        fabric = Fabric()
        for key in map(str, range(100)):
            fabric.publish("a", KB, key=key, retain=True)
        _, channel = self.stalled(fabric, "a", names=True)
        fabric.publish("a", "newer", key="99", retain=True)
        fabric.publish("b")
        fabric.publish("a", key="98", retain=True, gone=True)
        channel.take()
        fabric.publish("a", "too late", key="0", retain=True)
        channel.unblock()
        received = channel.received()
        assert types(received) == ["hello", *["a"] * 100, "synced", "a"]
        assert [m["seq"] for m in received[99:101]] == [101, 103]
        assert received[101]["data"] == {"epoch": EPOCH, "seq": 103}
        assert received[102]["seq"] == 104

    def test_does_not_wait_for_what_comes_after_the_last_snapshot(self) -> None:
        fabric = Fabric()
        fabric.publish("a", KB * 2, retain=True)
        subscriber, channel = self.stalled(fabric, "a", names=True)
        for _ in range(3):
            fabric.publish("a", KB)
        assert not subscriber.is_live
        channel.unblock()
        received = channel.received()
        assert [m.get("seq") for m in received] == [None, 1, None, 2, 3, 4]
        assert received[2]["data"]["seq"] == 1

    def test_waits_for_the_last_name_although_it_is_gone(self) -> None:
        fabric = Fabric()
        for key in map(str, range(70)):
            fabric.publish("a", KB, key=key, retain=True)
        _, channel = self.stalled(fabric, "a", names=True)
        for key in map(str, range(60, 70)):
            fabric.publish("a", key=key, retain=True, gone=True)
        channel.unblock()
        received = channel.received()
        assert [m.get("gone", False) for m in received[-11:]] == [True] * 10 + [False]
        assert received[-1]["data"] == {"epoch": EPOCH, "seq": 80}

    def test_comes_after_the_gap_and_all_that_was_kept_where_the_history_overran_it(self) -> None:
        """Of the values that were skipped as snapshots, the newest are in the outbox: `synced` must not come before."""
        fabric = Fabric(max_events=100)
        for key in map(str, range(100)):
            fabric.publish("a", KB, key=key, retain=True)
        _, channel = self.stalled(fabric, "a", names=True)
        for n in range(500):
            fabric.publish("a", n, key=str(n % 100), retain=True)
        channel.unblock()
        received = channel.received()
        told = types(received)
        assert told.count("synced") == told.count("gap") == 1
        assert told.index("gap") < told.index("synced")
        before = {m["key"]: m["seq"] for m in received[: told.index("synced")] if m["type"] == "a"}
        assert before.keys() == set(map(str, range(100)))
        assert received[told.index("synced")]["data"]["seq"] >= max(before.values())
        assert [m["seq"] for m in received if m["type"] == "a"][-1] == 600

    def test_comes_once_however_long_the_reader_stalls(self) -> None:
        fabric = Fabric(max_events=10)
        for key in map(str, range(80)):
            fabric.publish("a", KB, key=key, retain=True)
        subscriber, channel = self.stalled(fabric, "a", names=True)
        for n in range(400):
            fabric.publish("a", KB, key=str(n % 80), retain=True)
            channel.take(300)
        channel.unblock()
        fabric.publish("b")
        assert types(channel.received()).count("synced") == 1
        assert subscriber.is_live


class TestCatchingUp:
    def test_replays_what_it_wants_and_goes_on_live(self) -> None:
        fabric = Fabric()
        for event_type in "abab":
            fabric.publish(event_type)
        fabric.publish("a", flush=False)
        subscriber, channel, _ = fabric.subscriber()
        feed(subscriber, fabric, "a", since=1)
        fabric.hub.flush()
        fabric.publish("a")
        assert seqs(channel) == [3, 5, 6]
        assert subscriber.delivered == 3

    def test_writes_in_pieces_and_only_what_the_transport_takes(self) -> None:
        fabric = Fabric()
        for _ in range(300):
            fabric.publish("a", KB)
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, "a", since=0)
        assert channel.writes == 1
        assert PIECE_BYTES <= channel.unsent() < PIECE_BYTES + 1200
        channel.take()
        assert channel.writes == 2
        assert not subscriber.is_live
        channel.unblock()
        assert channel.writes == 5
        assert seqs(channel) == list(range(1, 301))
        assert subscriber.is_live

    def test_a_piece_stays_within_a_low_hard_limit(self) -> None:
        fabric = Fabric()
        for _ in range(100):
            fabric.publish("a", KB)
        limits = SendLimits(hard_bytes=16384, grace_s=10)
        subscriber, channel, reasons = fabric.subscriber(channel=FakeChannel(soft_bytes=8000), limits=limits)
        channel.block()
        feed(subscriber, fabric, "a", since=0)
        assert 8000 < channel.unsent() < 16384
        channel.unblock()
        assert seqs(channel) == list(range(1, 101))
        assert not reasons

    def test_a_reader_that_stalls_in_the_middle_gets_what_came_meanwhile(self) -> None:
        fabric = Fabric()
        for _ in range(100):
            fabric.publish("a", KB)
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, "a", since=0)
        for _ in range(50):
            fabric.publish("a", KB)
        channel.unblock()
        fabric.publish("a")
        assert seqs(channel) == list(range(1, 152))

    def test_a_reader_that_stalls_on_the_last_piece_gets_what_came_meanwhile(self) -> None:
        fabric = Fabric()
        for _ in range(3):
            fabric.publish("a", KB)
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, "a", since=0)
        for _ in range(5):
            fabric.publish("a")
        channel.unblock()
        fabric.publish("a")
        assert seqs(channel) == list(range(1, 10))
        assert subscriber.is_live

    def test_what_fell_out_under_its_cursor_is_kept_or_counted_exactly(self) -> None:
        fabric = Fabric(max_events=100)
        for _ in range(100):
            fabric.publish("log", KB)
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, "log", "state", since=0)
        for n in range(300):
            fabric.publish("state" if n % 2 else "other", n, retain=True)
        for _ in range(500):
            fabric.publish("log")
        channel.unblock()
        fabric.publish("log")
        received = channel.received()
        place = types(received).index("gap")
        before, gap, after = received[1:place], received[place], received[place + 1 :]
        assert [m["seq"] for m in before] == list(range(1, len(before) + 1))
        assert [m["seq"] for m in after] == [400, *range(800 - QUEUE + 1, 902)]
        skipped = {"log": 100 - len(before) + 400 - QUEUE, "state": 149}
        assert gap["data"] == {"reason": "slow_consumer", "requested": None, "skipped": skipped}
        assert fabric.counted == subscriber.skipped == skipped
        assert subscriber.delivered == len(before) + len(after)

    def test_an_event_too_large_for_the_history_reaches_it_all_the_same(self) -> None:
        fabric = Fabric(max_bytes=5000)
        for _ in range(3):
            fabric.publish("a", KB)
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        feed(subscriber, fabric, "a", since=0)
        fabric.publish("a", KB * 6)
        fabric.publish("a")
        channel.unblock()
        assert seqs(channel) == [1, 2, 3, 4, 5]

    def test_is_told_of_evictions_only_while_it_reads_from_the_history(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = fabric.subscriber(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        fabric.publish("a", KB * 2)
        feed(subscriber, fabric, "a", since=0)
        assert subscriber in fabric.stream.catching_up
        channel.unblock()
        assert subscriber not in fabric.stream.catching_up
        channel.block()
        fabric.publish("a", KB * 2)
        feed_again = fabric.subscriber(channel=FakeChannel(soft_bytes=1))[0]
        feed_again.pause()
        feed(feed_again, fabric, "a", since=0)
        feed_again.detach()
        assert not fabric.stream.catching_up


class TestBacklogged:
    def backlogged(self, fabric: Fabric, **limits: float) -> tuple[Subscriber, FakeChannel, list[str]]:
        allowed = SendLimits(hard_bytes=int(limits.get("hard_bytes", 1 << 22)), grace_s=limits.get("grace_s", 10.0))
        subscriber, channel, reasons = fabric.subscriber(channel=FakeChannel(soft_bytes=1000), limits=allowed)
        feed(subscriber, fabric, "*")
        channel.block()
        fabric.publish("big", KB)
        assert not subscriber.is_live
        return subscriber, channel, reasons

    def test_is_given_no_new_frame_until_it_drained(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = self.backlogged(fabric)
        unsent = channel.unsent()
        fabric.publish("a")
        assert channel.unsent() == unsent
        assert subscriber.waiting_bytes > unsent
        assert subscriber.delivered == 1
        channel.unblock()
        assert subscriber.delivered == 2
        assert subscriber.waiting_bytes == 0

    def test_then_gets_the_gap_where_the_hole_is_then_what_was_kept_then_live(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = self.backlogged(fabric)
        for n in range(4):
            fabric.publish("state", n, retain=True, key="k")
        for n in range(QUEUE + 2):
            fabric.publish("log", n)
        assert subscriber.skipped == {"state": 3, "log": 2}
        assert subscriber.delivered == 1
        assert not fabric.counted
        channel.unblock()
        fabric.publish("log")
        received = channel.received()
        assert types(received)[:4] == ["hello", "big", "gap", "state"]
        assert received[2]["data"]["skipped"] == {"state": 3, "log": 2}
        assert [m["seq"] for m in received[3:]] == [5, *range(8, 8 + QUEUE + 1)]
        assert fabric.counted == subscriber.skipped == {"state": 3, "log": 2}
        assert subscriber.delivered == 1 + 1 + QUEUE + 1

    def test_is_told_of_a_bounded_number_of_types_over_all_its_gaps(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = self.backlogged(fabric)
        for start in (0, 80):
            for n in range(80):
                fabric.publish(f"log.{start + n}")
            for _ in range(QUEUE):
                fabric.publish("log.0")
            channel.unblock()
            channel.block()
            fabric.publish("big", KB)
        skipped = subscriber.skipped
        assert len(skipped) == COUNTED_TYPES + 1
        assert skipped[OTHER_TYPES] == 60
        assert sum(skipped.values()) == sum(fabric.counted.values())

    def test_is_worked_off_in_pieces_too(self) -> None:
        fabric = Fabric()
        subscriber, channel, _ = self.backlogged(fabric)
        for n in range(200):
            fabric.publish("state", KB, retain=True, key=str(n))
        channel.take()
        assert PIECE_BYTES <= channel.unsent() < PIECE_BYTES + 1200
        assert not subscriber.is_live
        fabric.publish("state", "newer", retain=True, key="199")
        channel.unblock()
        received = channel.received()
        assert [m["seq"] for m in received if "seq" in m] == [*range(1, 201), 202]
        assert received[types(received).index("gap")]["data"]["skipped"] == {"state": 1}
        assert subscriber.is_live

    def test_says_no_gap_when_nothing_was_skipped(self) -> None:
        fabric = Fabric()
        _, channel, _ = self.backlogged(fabric)
        fabric.publish("a")
        fabric.publish("b")
        channel.unblock()
        assert types(channel.received()) == ["hello", "big", "a", "b"]

    def test_what_no_gap_told_before_the_end_is_counted_as_skipped(self) -> None:
        fabric = Fabric()
        subscriber, _, _ = self.backlogged(fabric)
        for n in range(3):
            fabric.publish("state", n, retain=True, key="1")
        for _ in range(QUEUE + 5):
            fabric.publish("log")
        subscriber.detach()
        counts = fabric.traffic.by_type
        assert {name: of.skipped for name, of in counts.items() if of.skipped} == subscriber.skipped
        assert (counts["log"].skipped, counts["log"].conflated) == (5, 0)
        assert (counts["state"].skipped, counts["state"].conflated) == (2, 2)

    def test_one_more_byte_than_the_hard_limit_ends_it_once(self) -> None:
        fabric = Fabric()
        subscriber, _, reasons = self.backlogged(fabric, hard_bytes=5000)
        fabric.publish("a", "x" * (5000 - subscriber.waiting_bytes - len(event("a", 2, "").json)))
        assert subscriber.waiting_bytes == 5000
        assert not reasons
        fabric.publish("a")
        fabric.publish("a")
        assert reasons == ["more than 5000 bytes were waiting for the connection"]

    def test_a_burst_over_the_hard_limit_ends_it_at_once(self) -> None:
        fabric = Fabric()
        subscriber, channel, reasons = fabric.subscriber(
            channel=FakeChannel(soft_bytes=1000), limits=SendLimits(hard_bytes=5000, grace_s=10)
        )
        feed(subscriber, fabric, "*")
        channel.block()
        fabric.publish("a", KB * 6)
        assert len(reasons) == 1

    def test_retained_events_of_one_key_never_reach_the_hard_limit(self) -> None:
        fabric = Fabric()
        _, _, reasons = self.backlogged(fabric, hard_bytes=5000)
        for _ in range(100):
            fabric.publish("state", KB, retain=True)
        assert not reasons

    def test_a_kernel_that_takes_nothing_for_the_grace_period_ends_it(self) -> None:
        fabric = Fabric()
        subscriber, channel, reasons = self.backlogged(fabric, grace_s=10.0)
        subscriber.review(Instant(0.0, WALL))
        subscriber.review(Instant(9.9, WALL))
        assert not reasons
        channel.take(1)
        subscriber.review(Instant(10.0, WALL))
        subscriber.review(Instant(19.9, WALL))
        assert not reasons
        subscriber.review(Instant(20.0, WALL))
        assert reasons == ["the connection took no byte for 10 s"]

    def test_a_kernel_that_drained_in_between_has_the_whole_grace_period_again(self) -> None:
        fabric = Fabric()
        subscriber, channel, reasons = self.backlogged(fabric, grace_s=10.0)
        subscriber.review(Instant(0.0, WALL))
        channel.take()
        subscriber.review(Instant(5.0, WALL))
        fabric.publish("big", KB * 3)
        subscriber.review(Instant(12.0, WALL))
        subscriber.review(Instant(21.9, WALL))
        assert not reasons
        subscriber.review(Instant(22.0, WALL))
        assert reasons

    def test_may_not_be_fed_while_it_is_being_fed(self) -> None:
        fabric = Fabric()
        subscriber, _, _ = fabric.subscriber()
        subscriber.pause()
        feed(subscriber, fabric, "*")
        with pytest.raises(AssertionError, match="one feed at a time"):
            feed(subscriber, fabric, "*")


def test_a_burst_too_large_for_one_write_is_offered_to_whom_its_beginning_fills() -> None:
    """A healthy client is not ended because one turn of the loop published more than may wait for it."""
    fabric = Fabric()
    subscriber, channel, reasons = fabric.subscriber("a.*", channel=FakeChannel(soft_bytes=1 << 16))
    subscriber.feed(b"", interest=interest("a.*"), names=[], position=fabric.position, synced_from=None, now=NOW)
    channel.block()
    for n in range(64):
        fabric.publish("a.value", {"n": n, "fill": "x" * 100_000}, flush=False, retain=True)
    fabric.hub.flush()
    assert not reasons
    assert subscriber.waiting_bytes < 1 << 20, "retained values conflate once the transport is full"
