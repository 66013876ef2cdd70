import pytest

from tidegate.core.shaping.forms import Form, NoForm, apart


@pytest.mark.parametrize("pointers", [["/a", "/a/b"], ["", "/a"], ['/"'], ["/a/\n"], ["/list/1000"]])
def test_there_is_no_form_for_what_msgspec_cannot_fill_at_once(pointers: list[str]) -> None:
    with pytest.raises(NoForm):
        Form(pointers)


def test_pointers_that_lead_through_each_other_are_taken_apart() -> None:
    assert apart(["/a", "/b", "/a/b", "/a", "/ab", ""]) == [["/a", "/b", "/ab"], ["/a/b"], [""]]
