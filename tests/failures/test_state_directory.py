"""A state directory that another gateway holds, or in which a file lies that is none of ours: real gateways."""

from pathlib import Path

import pytest
from programs import tidegate, until

pytestmark = pytest.mark.real

CONFIG = """\
[server]
port = 0
drain_s = 0.0
state_dir = "state"
[backends.engine]
url = "http://127.0.0.1:9/rpc"
[sources."system.status"]
backend = "engine"
method = "system.status"
"""


def test_a_foreign_file_is_set_aside_and_a_second_gateway_is_refused(tmp_path: Path) -> None:
    config, state = tmp_path / "tidegate.toml", tmp_path / "state"
    config.write_text(CONFIG)
    state.mkdir()
    (state / "values.sqlite3").write_bytes(b"somebody's diary\n" * 1000)
    with tidegate("serve", "--config", str(config)) as first:
        until(lambda: first.url, what=first.err)
        (line,) = [line for line in first.log if line["event"] == "state file set aside"]
        assert (line["level"], line["reason"]) == ("warning", "file is not a database")
        assert Path(line["kept_as"]).read_bytes().startswith(b"somebody's diary")
        with tidegate("serve", "--config", str(config)) as second:
            assert second.wait() == 1
            assert second.err[1:] == [f"tidegate: another gateway uses {state}: give each its own server.state_dir"]
        assert first.process.poll() is None
