from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sizeloss_monai.dicom.series import digest
from sizeloss_monai.dicom.service.spool import ReceivedSeries, Spool, SpoolFullError
from sizeloss_monai.errors import DataError

MakeSpool = Callable[..., Spool]


def taken(spool: Spool) -> ReceivedSeries:
    series = spool.take()
    assert series is not None
    return series


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_series_is_complete_after_the_quiet_time(make_spool: MakeSpool) -> None:
    spool = make_spool(quiet_seconds=3600)
    spool.receive("1.2.3", "1.2.3.1", b"data")
    assert len(spool) == 1
    assert spool.take() is None
    spool = make_spool(quiet_seconds=0)
    assert taken(spool).key == digest("1.2.3")
    assert spool.take() is None


def test_later_instances_postpone_it(make_spool: MakeSpool) -> None:
    spool = make_spool(quiet_seconds=0)
    spool.receive("1.2.3", "1.2.3.1", b"data")
    spool.quiet_seconds = 3600
    spool.receive("1.2.3", "1.2.3.2", b"data")
    assert spool.take() is None


def test_oldest_first(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for uid in ("1.1", "1.2", "1.1"):
        spool.receive(uid, f"{uid}.{len(spool)}", b"data")
    assert [taken(spool).key, taken(spool).key] == [digest("1.2"), digest("1.1")]


def test_names_are_digests_and_the_folder_is_private(make_spool: MakeSpool, tmp_path: Path) -> None:
    make_spool().receive("1.2.3", "1.2.3.1", b"data")
    assert names(tmp_path / "spool") == {f"incoming/{digest('1.2.3')}/{digest('1.2.3.1')}.dcm"}
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_the_same_instance_again_replaces_the_former(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=10)
    for data in (b"1234567", b"123", b"1234"):
        spool.receive("1.2.3", "1.2.3.1", data)
    spool.receive("1.2.3", "1.2.3.2", b"123456")  # 4 + 6 bytes
    series = taken(spool)
    assert len(series.instances) == 2
    assert (series.folder / f"{digest('1.2.3.1')}.dcm").read_bytes() == b"1234"


def test_what_waited_and_what_was_worked_on_survive(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    spool.receive("1.1", "1.1.1", b"data")
    taken(spool)
    spool.receive("1.2", "1.2.1", b"data")
    (tmp_path / "spool" / "part" / "half").write_bytes(b"da")
    (tmp_path / "spool" / "incoming" / "empty").mkdir()
    spool = make_spool()
    assert len(spool) == 2
    assert {taken(spool).key, taken(spool).key} == {digest("1.1"), digest("1.2")}
    assert not (tmp_path / "spool" / "incoming" / "empty").exists()
    assert not list((tmp_path / "spool" / "part").iterdir())


def test_instances_that_came_during_the_work_join_their_series(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.receive("1.1", "1.1.1", b"old")
    spool.receive("1.1", "1.1.2", b"old")
    taken(spool)
    spool.receive("1.1", "1.1.2", b"new")
    spool.receive("1.1", "1.1.3", b"new")
    spool = make_spool(max_bytes=9)
    series = taken(spool)
    contents = {path.stem: path.read_bytes() for path in series.folder.iterdir()}
    assert contents == {digest("1.1.1"): b"old", digest("1.1.2"): b"new", digest("1.1.3"): b"new"}
    spool.drop(series)
    spool.receive("1.2", "1.2.1", b"12345678")  # all bytes are free again


def test_attempts_are_counted_over_restarts(make_spool: MakeSpool) -> None:
    make_spool().receive("1.1", "1.1.1", b"data")
    assert [taken(make_spool()).attempts for _ in range(3)] == [0, 1, 2]
    spool = make_spool()
    spool.put_back(taken(spool))
    assert taken(spool).attempts == 0


def test_put_back_waits(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.receive("1.1", "1.1.1", b"data")
    spool.put_back(taken(spool), wait=3600)
    assert spool.take() is None
    assert len(spool) == 1


def test_done_is_remembered_and_its_pixels_are_removed(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    spool.receive("1.1", "1.1.1", b"data")
    spool.finish(taken(spool))
    spool = make_spool()
    assert spool.instances_done(digest("1.1")) == {digest("1.1.1")}
    assert spool.instances_done(digest("1.2")) is None
    assert names(tmp_path / "spool") == {f"done/{digest('1.1')}.json"}


def test_failed_is_kept_with_its_reason_until_it_succeeds(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    spool.receive("1.1", "1.1.1", b"data")
    spool.fail(taken(spool), "no slices")
    key, failed = digest("1.1"), tmp_path / "spool" / "failed"
    assert names(failed) == {f"{key}.json", f"{key}/{digest('1.1.1')}.dcm"}
    assert json.loads((failed / f"{key}.json").read_text())["reason"] == "no slices"
    spool.receive("1.1", "1.1.2", b"data")
    series = taken(spool)
    assert series.instances == {digest("1.1.2")}  # it does not inherit the others
    spool.finish(series)
    assert names(failed) == set()


def test_failing_twice_keeps_the_later(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool(max_bytes=8)
    for uid in ("1.1.1", "1.1.2"):
        spool.receive("1.1", uid, b"abc")
        spool.fail(taken(spool), uid)
    key = digest("1.1")
    assert names(tmp_path / "spool" / "failed") == {f"{key}.json", f"{key}/{digest('1.1.2')}.dcm"}
    spool.receive("1.2", "1.2.1", b"abcd")  # 3 + 4 bytes


def test_bounded_number_of_series(make_spool: MakeSpool) -> None:
    spool = make_spool(max_series=2)
    spool.receive("1.1", "1.1.1", b"data")
    spool.receive("1.2", "1.2.1", b"data")
    with pytest.raises(SpoolFullError):
        spool.receive("1.3", "1.3.1", b"data")
    spool.receive("1.2", "1.2.2", b"data")  # one that has begun may end
    taken(spool)
    spool.receive("1.3", "1.3.1", b"data")


def test_bounded_bytes(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=100)
    spool.receive("1.1", "1.1.1", b"x" * 85)
    with pytest.raises(SpoolFullError):  # over nine tenths
        spool.receive("1.2", "1.2.1", b"x" * 10)
    spool.receive("1.1", "1.1.2", b"x" * 15)
    with pytest.raises(SpoolFullError):
        spool.receive("1.1", "1.1.3", b"x")
    spool = make_spool(max_bytes=100)  # counted anew
    with pytest.raises(SpoolFullError):
        spool.receive("1.1", "1.1.3", b"x")
    spool.finish(taken(spool))
    spool.receive("1.2", "1.2.1", b"x" * 10)


def test_failed_series_make_room(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool(max_bytes=100)
    for uid in ("1.1", "1.2"):
        spool.receive(uid, f"{uid}.1", b"x" * 40)
        spool.fail(taken(spool), "bad")
    os.utime(tmp_path / "spool" / "failed" / f"{digest('1.2')}.json", (0, 0))  # the older one
    spool.receive("1.3", "1.3.1", b"x" * 40)
    key = digest("1.1")
    left = {name for name in names(tmp_path / "spool" / "failed") if name.endswith(".dcm")}
    assert left == {f"{key}/{digest('1.1.1')}.dcm"}


def test_pruning_by_age(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    for uid in ("1.1", "1.2", "2.1", "2.2"):
        spool.receive(uid, f"{uid}.1", b"data")
        if uid.startswith("1"):
            spool.fail(taken(spool), "bad")
        else:
            spool.finish(taken(spool))
    days_ago = time.time() - 3 * 86_400
    for path in (f"failed/{digest('1.1')}.json", f"done/{digest('2.1')}.json"):
        os.utime(tmp_path / "spool" / path, (days_ago, days_ago))
    spool.prune(keep_failed_days=4, keep_done_days=4)
    assert len(names(tmp_path / "spool")) == 6
    spool.prune(keep_failed_days=2, keep_done_days=2)
    assert names(tmp_path / "spool") == {
        f"failed/{digest('1.2')}.json",
        f"failed/{digest('1.2')}/{digest('1.2.1')}.dcm",
        f"done/{digest('2.2')}.json",
    }


def test_one_process_at_a_time(make_spool: MakeSpool, tmp_path: Path) -> None:
    make_spool()
    with pytest.raises(DataError, match="another process uses this spool"):
        Spool(tmp_path / "spool", quiet_seconds=0, max_series=1, max_bytes=1)


def test_an_instance_that_cannot_be_written_leaves_nothing(
    make_spool: MakeSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError("no space left")

    spool = make_spool()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        spool.receive("1.1", "1.1.1", b"data")
    assert names(tmp_path / "spool") == set()
    assert spool.take() is None
