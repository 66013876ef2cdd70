import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tidegate.engine.storage import Mount, StorageMonitor, Volume, real_volumes

ROOT = Mount("/dev/sda1", "/", "ext4")
OVERLAY = Mount("overlay", "/", "overlay")
DATA = Mount("/dev/mapper/data", "/srv/data", "xfs")
SHARE = Mount("nas:/export", "/mnt/share", "nfs4")


@pytest.mark.parametrize(
    ("mounts", "volumes"),
    [
        pytest.param([DATA, ROOT], [ROOT, DATA], id="in the order of mount points"),
        pytest.param(
            [Mount("/dev/sdb", "/a/b", "btrfs"), Mount("/dev/sdb", "/b", "btrfs")],
            [Mount("/dev/sdb", "/b", "btrfs")],
            id="the shortest mount point wins",
        ),
        pytest.param(
            [Mount("/dev/sdb", "/srv", "xfs"), Mount("/dev/sdb", "/mnt", "xfs")],
            [Mount("/dev/sdb", "/mnt", "xfs")],
            id="of two as short, the first in the alphabet",
        ),
        pytest.param(
            [ROOT, Mount("proc", "/proc", "proc"), Mount("tmpfs", "/run", "tmpfs"), Mount("udev", "/dev", "devtmpfs")],
            [ROOT],
            id="no pseudo file systems",
        ),
        pytest.param([ROOT, Mount("/dev/loop0", "/snap/core", "squashfs")], [ROOT], id="no images"),
        pytest.param([ROOT, Mount("/dev/fuse", "/run/user/doc", "fuse")], [ROOT], id="no programs behind FUSE"),
        pytest.param([ROOT, Mount("tank/home", "/home", "zfs"), SHARE], [ROOT, ("tank/home", "/home", "zfs"), SHARE]),
        pytest.param(
            [ROOT, Mount("/dev/sdb", "/mnt", "xfs"), Mount("/dev/sdc", "/mnt", "xfs")],
            [ROOT, Mount("/dev/sdc", "/mnt", "xfs")],
            id="a mount hides what was mounted there before",
        ),
        pytest.param(
            [Mount("", "/a", "virtiofs"), Mount("", "/b", "virtiofs")],
            [Mount("", "/a", "virtiofs"), Mount("", "/b", "virtiofs")],
            id="without a device's name the mount point tells them apart",
        ),
        pytest.param([Mount("proc", "/proc", "proc"), OVERLAY], [OVERLAY], id="in a container, its root"),
        pytest.param([], [Mount("rootfs", "/", "unknown")], id="never none"),
    ],
)
def test_real_volumes(mounts: list[Mount], volumes: list[Mount]) -> None:
    assert real_volumes(mounts) == volumes


Mounted = Callable[..., None]


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Makes psutil report just these mounts."""

    def mount(*mounts: Mount) -> None:
        table = [SimpleNamespace(device=m.device, mountpoint=m.mount_point, fstype=m.file_system) for m in mounts]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: table)  # noqa: A006

    return mount


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Makes the share hang until `release` is set, and counts how often it was asked in `asked`."""
    state = SimpleNamespace(release=threading.Event(), asked=0)
    disk_usage = psutil.disk_usage

    def usage(path: str) -> object:
        if path == SHARE.mount_point:
            state.asked += 1
            state.release.wait()
            return disk_usage("/")
        return disk_usage(path)

    monkeypatch.setattr(psutil, "disk_usage", usage)
    yield state
    state.release.set()


async def volumes(monitor: StorageMonitor) -> dict[str, Volume]:
    return {volume.mount_point: volume for volume in (await monitor.status()).volumes}


async def test_this_machine_has_a_volume_with_its_true_size() -> None:
    found = (await StorageMonitor().status()).volumes
    assert len({volume.id for volume in found}) == len(found) >= 1
    for volume in found:
        assert volume.total_bytes == psutil.disk_usage(volume.mount_point).total
        assert volume.used_bytes is not None
        assert 0 < volume.used_bytes <= volume.total_bytes
        assert volume.percent is not None
        assert 0 < volume.percent <= 100


async def test_a_volume_that_hangs_hides_no_other_and_is_asked_once(mounted: Mounted, hung: SimpleNamespace) -> None:
    mounted(ROOT, SHARE)
    monitor = StorageMonitor(timeout_s=0.05)
    while (found := await volumes(monitor))["/"].total_bytes is None:
        pass  # on a busy machine the healthy volume too may need longer
    await volumes(monitor)
    share = found["/mnt/share"]
    assert (share.total_bytes, share.used_bytes, share.free_bytes, share.percent) == (None, None, None, None)
    assert hung.asked == 1


async def test_a_volume_that_hung_is_back_when_it_answers(mounted: Mounted, hung: SimpleNamespace) -> None:
    mounted(SHARE)
    monitor = StorageMonitor(timeout_s=0.01)
    await volumes(monitor)
    hung.release.set()
    monitor._timeout_s = 60.0
    assert (await volumes(monitor))["/mnt/share"].total_bytes == psutil.disk_usage("/").total
    asked = hung.asked
    await volumes(monitor)
    assert hung.asked == asked + 1


async def test_a_volume_that_fails_has_no_sizes(mounted: Mounted) -> None:
    mounted(Mount("nas:/gone", "/no/such/folder", "nfs"))
    [gone] = (await StorageMonitor().status()).volumes
    assert (gone.id, gone.total_bytes) == ("nas:/gone", None)


async def test_single_files_that_are_mounted_are_no_volumes(mounted: Mounted, tmp_path: Path) -> None:
    file = tmp_path / "dns"
    file.touch()
    mounted(OVERLAY, Mount("/dev/sda1", str(file), "ext4"), Mount("/dev/sda1", str(tmp_path / "data"), "ext4"))
    assert list(await volumes(StorageMonitor())) == [str(tmp_path / "data")]


async def test_rates_are_those_of_the_device(mounted: Mounted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted(Mount("/dev/sda1", str(tmp_path), "ext4"), SHARE._replace(device="nas:/sda1", mount_point="/"))
    counts = iter([(1000, 0), (5000, 100)])
    moments = iter([10.0, 12.0])

    def io_counters(perdisk: bool, nowrap: bool) -> dict[str, SimpleNamespace]:
        read, written = next(counts)
        return {"sda1": SimpleNamespace(read_bytes=read, write_bytes=written), "sda": SimpleNamespace()}

    monkeypatch.setattr(psutil, "disk_io_counters", io_counters)
    monkeypatch.setattr("tidegate.engine.storage.time", SimpleNamespace(monotonic=lambda: next(moments)))
    monitor = StorageMonitor()
    first, second = await volumes(monitor), await volumes(monitor)
    assert (first[str(tmp_path)].read_bytes_per_s, first[str(tmp_path)].write_bytes_per_s) == (None, None)
    assert (second[str(tmp_path)].read_bytes_per_s, second[str(tmp_path)].write_bytes_per_s) == (2000.0, 50.0)
    assert (second["/"].read_bytes_per_s, second["/"].write_bytes_per_s) == (None, None)


async def test_a_container_without_disk_statistics_has_no_rates(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(perdisk: bool, nowrap: bool) -> None:
        raise NotImplementedError

    mounted(ROOT)
    monkeypatch.setattr(psutil, "disk_io_counters", hidden)
    [root] = (await StorageMonitor().status()).volumes
    assert root.total_bytes is not None
    assert root.read_bytes_per_s is None
