"""``storage.status``: each real volume of this machine once, from psutil.

A volume whose server or disk hangs must not block the others. So each volume is queried in a thread of its own, with a
timeout, and is not queried again until the last query has returned.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from tidegate.engine.rates import RateMeter
from tidegate.engine.threads import in_thread

TIMEOUT_S = 1.0
"""How long one volume may take to report its usage. It is below the gateway's default timeout for the whole call."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.glusterfs", "fuse.sshfs", "9p", "virtiofs", "zfs"}
)
"""File systems that hold real data although their device is not under ``/dev``."""

IMAGE_FILE_SYSTEMS = frozenset({"squashfs", "erofs"})
"""Read-only images, such as installed programs. They are always full, so their usage says nothing."""


class Mount(NamedTuple):
    """A line of the mount table."""

    device: str
    mount_point: str
    file_system: str


class DiskUsage(NamedTuple):
    """The usage of a volume. `free_bytes` is what ordinary users can still write; `percent` is relative to that."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    percent: float


class Volume(msgspec.Struct, frozen=True):
    """One volume, at the shortest of its mount points.

    Sizes are null while the volume does not respond. Rates are those of its device; they are null at the first call,
    and for anything but a local disk.
    """

    id: str
    device: str
    mount_point: str
    file_system: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    percent: float | None
    read_bytes_per_s: float | None
    write_bytes_per_s: float | None


class StorageStatus(msgspec.Struct, frozen=True):
    """All volumes, ordered by mount point; at least the one at ``/``."""

    volumes: list[Volume]


class StorageMonitor:
    """Answers ``storage.status``. Rates are measured since the last call, by any caller."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._meter: RateMeter[tuple[str, str]] = RateMeter()
        self._asked: dict[str, asyncio.Future[DiskUsage | None]] = {}

    async def status(self) -> StorageStatus:
        """How full each volume is, and how fast it is read and written."""
        reading = await in_thread(_read)
        rates = self._meter.measure(reading.counters, now=reading.at)
        usages = await asyncio.gather(*(self._usage(mount.mount_point) for mount in reading.mounts))
        return StorageStatus(
            [_volume(mount, usage, rates) for mount, usage in zip(reading.mounts, usages, strict=True)]
        )

    async def _usage(self, mount_point: str) -> DiskUsage | None:
        asked = self._asked.get(mount_point)
        if asked is None:
            asked = self._asked[mount_point] = in_thread(partial(_disk_usage, mount_point))
            asked.add_done_callback(lambda _: self._asked.pop(mount_point))
        done, _ = await asyncio.wait({asked}, timeout=self._timeout_s)
        return asked.result() if done else None


def real_volumes(mounts: Sequence[Mount]) -> list[Mount]:
    """Return each real volume of the mount table once, at its shortest mount point.

    Pseudo file systems and images are left out. If there is no real volume, return what is mounted at ``/``.
    """
    visible = {mount.mount_point: mount for mount in mounts}  # a later mount hides an earlier one at the same place
    by_id: dict[str, Mount] = {}
    for mount in sorted(visible.values(), key=lambda mount: (len(mount.mount_point), mount.mount_point)):
        if _is_real(mount):
            by_id.setdefault(volume_id(mount), mount)
    if not by_id:
        return [visible.get("/", Mount("rootfs", "/", "unknown"))]
    return sorted(by_id.values(), key=lambda mount: mount.mount_point)


def volume_id(mount: Mount) -> str:
    """Return what identifies a volume while it is mounted: its device, or its mount point if that has no name."""
    return mount.device.removeprefix("/dev/") or mount.mount_point


def _is_real(mount: Mount) -> bool:
    if mount.file_system in NETWORK_FILE_SYSTEMS:
        return True
    return _is_on_disk(mount) and mount.file_system not in IMAGE_FILE_SYSTEMS


def _is_on_disk(mount: Mount) -> bool:
    return mount.device.startswith("/dev/") and mount.device != "/dev/fuse"


def _volume(mount: Mount, usage: DiskUsage | None, rates: Mapping[tuple[str, str], float | None]) -> Volume:
    return Volume(
        id=volume_id(mount),
        device=mount.device,
        mount_point=mount.mount_point,
        file_system=mount.file_system,
        total_bytes=usage.total_bytes if usage else None,
        used_bytes=usage.used_bytes if usage else None,
        free_bytes=usage.free_bytes if usage else None,
        percent=usage.percent if usage else None,
        read_bytes_per_s=_rounded(rates.get((mount.device, "read"))),
        write_bytes_per_s=_rounded(rates.get((mount.device, "write"))),
    )


class _Reading(NamedTuple):
    """The volumes and their devices' byte counters, read at `at` in monotonic seconds."""

    at: float
    mounts: list[Mount]
    counters: Mapping[tuple[str, str], float]


def _read() -> _Reading:
    mounts = real_volumes(list(_mounted_folders()))
    return _Reading(time.monotonic(), mounts, _device_counters(mounts))


def _mounted_folders() -> Iterable[Mount]:
    """Return the mount table without mounts of single files, which container runtimes add."""
    for partition in psutil.disk_partitions(all=True):
        mount = Mount(partition.device, partition.mountpoint, partition.fstype)
        # Only disks are inspected: a network mount could hang here, and block the report of the other volumes.
        if not (_is_on_disk(mount) and _is_file(mount.mount_point)):
            yield mount


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _device_counters(mounts: Iterable[Mount]) -> dict[tuple[str, str], float]:
    try:
        by_name = psutil.disk_io_counters(perdisk=True, nowrap=False)
    except NotImplementedError:  # the kernel's statistics are hidden from this container
        return {}
    counters: dict[tuple[str, str], float] = {}
    for mount in filter(_is_on_disk, mounts):
        # The kernel's counters use its own names: /dev/mapper/data is a link to dm-0.
        if count := by_name.get(Path(mount.device).resolve().name):
            counters[mount.device, "read"] = count.read_bytes
            counters[mount.device, "write"] = count.write_bytes
    return counters


def _disk_usage(mount_point: str) -> DiskUsage | None:
    try:
        usage = psutil.disk_usage(mount_point)
    except OSError:
        return None
    return DiskUsage(usage.total, usage.used, usage.free, usage.percent)


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)
