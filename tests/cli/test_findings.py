"""How a finding is shown."""

from tidegate.cli.findings import Finding, Level


def test_a_finding_is_a_line_what_else_there_is_more_and_its_remedy_the_last() -> None:
    assert str(Finding(Level.OK, "a", "b")) == "ok    a: b"
    assert str(Finding(Level.WARN, "a", "b", "c")) == "warn  a: b\n      → c"
    assert str(Finding(Level.FAIL, "a", "b", "c", ("d", "e"))) == "fail  a: b\n      d\n      e\n      → c"


def test_no_part_of_it_steers_the_terminal() -> None:
    assert all(line.isprintable() for line in str(Finding(Level.OK, "a", "\x1b[2J", "\x07", ("\x9b",))).splitlines())
