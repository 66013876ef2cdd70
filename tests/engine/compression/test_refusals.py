import errno

import pytest

from tidegate.engine.compression.refusals import MESSAGE_CHARACTERS, Code, Refused, of_reading, of_writing, shown


def test_a_message_has_an_end_and_keeps_it() -> None:
    assert str(Refused(Code.IO_ERROR, "x" * MESSAGE_CHARACTERS)) == "x" * MESSAGE_CHARACTERS
    error = str(of_reading(PermissionError(errno.EACCES, "Permission denied"), b"/\xff" * 100_000))
    assert len(error) == MESSAGE_CHARACTERS + 1
    assert error.startswith("/\\xff/")
    assert error.endswith("/\\xff cannot be read: Permission denied")


def test_paths_are_shown_as_text_whatever_they_are() -> None:
    assert shown(b"/a\xff\xc3\xa4") == shown("/a\udcff\u00e4") == "/a\\xff\u00e4"
    assert shown(b"/\n\x1b[2J\x7f\xc2\x9b") == "/\\x0a\\x1b[2J\\x7f\\x9b"


@pytest.mark.parametrize(
    ("number", "reading", "writing"),
    [
        (errno.EACCES, Code.UNREADABLE, Code.IO_ERROR),
        (errno.EPERM, Code.UNREADABLE, Code.IO_ERROR),
        (errno.ENOENT, Code.SOURCE_CHANGED, Code.IO_ERROR),
        (errno.ELOOP, Code.SOURCE_CHANGED, Code.IO_ERROR),
        (errno.EIO, Code.IO_ERROR, Code.IO_ERROR),
        (errno.ENOSPC, Code.IO_ERROR, Code.DISK_FULL),
        (errno.EDQUOT, Code.IO_ERROR, Code.DISK_FULL),
        (errno.EEXIST, Code.IO_ERROR, Code.DESTINATION_EXISTS),
    ],
)
def test_what_the_system_says_has_a_code(number: int, reading: Code, writing: Code) -> None:
    assert of_reading(OSError(number, "why"), b"/x").code is reading
    assert of_writing(OSError(number, "why"), b"/x").code is writing
