"""The judge of a world: reads every visit, asks for the truth of all that was published, and whether all agree."""

from simulation.clients import Message, Visit
from simulation.reading import check_visit, without_times
from simulation.record import WITNESS, Record, wants
from simulation.truth import Truth


def note_ended(record: Record, visit: Visit, now: float) -> None:
    """A visit is over. It is judged once the log is sure to hold all that was published during it, then forgotten."""
    judge_ended(record, before=now)
    record.waiting.append(visit)


def judge_ended(record: Record, *, before: float) -> None:
    """Judge the visits that ended before `before`."""
    for visit in [visit for visit in record.waiting if visit.ended is not None and visit.ended < before]:
        record.waiting.remove(visit)
        check_visit(record, visit)


def check(record: Record) -> None:
    """Judge everything that is left; `record.violations` is empty if all was well."""
    judge_ended(record, before=float("inf"))
    Truth(record).check()
    check_convergence(record)


def check_convergence(record: Record) -> None:
    """At the end every client believes the same of what it is subscribed to, and that is fresh."""
    end = record.scenario.duration_s
    _, all_of_it = record.views[WITNESS]
    for client, (patterns, held) in record.views.items():
        for name in held.keys() | {name for name in all_of_it if wants(patterns, name[0])}:
            mine, theirs = held.get(name), all_of_it.get(name)
            if mine is None or theirs is None or _belief(mine) != _belief(theirs):
                record.fail(end, f"{client}: believes {mine} of {name}, the witness {theirs}")
            elif mine.stale:
                record.fail(end, f"{client}: {name} is still stale at the end")
    if missing := record.last_config.sources.keys() - {event_type for event_type, _ in all_of_it}:
        record.fail(end, f"nothing was ever heard of {sorted(missing)}")


def _belief(message: Message) -> tuple[object, bool | None]:
    return without_times(message), message.stale
