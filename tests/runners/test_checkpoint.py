"""Caches: complete or not there, verified by checksum, named by what determines their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runners.checkpoint import CountStore, cache_key, fingerprint, read_arrays, write_arrays


def _filled(folder: Path, blocks: int = 3) -> CountStore:
    store = CountStore(folder, "train", (9, 4), 2)
    rng = np.random.default_rng(0)
    for k in range(blocks):
        rows = slice(3 * k, 3 * k + 3)
        store.write(rows, rng.integers(0, 99, (3, 4)).astype(np.uint16), rng.random((3, 2)), seconds=1.5)
    return store


def test_written_blocks_are_found_again(tmp_path: Path) -> None:
    first = _filled(tmp_path, blocks=2)
    assert first.done == 6 and not first.complete
    again = CountStore(tmp_path, "train", (9, 4), 2)
    assert again.done == 6 and again.seconds == pytest.approx(3.0)
    np.testing.assert_array_equal(again.counts[:6], first.counts[:6])


def test_a_damaged_block_and_all_after_it_are_made_again(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    store.counts[4, 1] += 1
    store.counts.flush()
    again = CountStore(tmp_path, "train", (9, 4), 2)
    assert again.done == 3
    assert CountStore(tmp_path, "train", (9, 4), 2).done == 3  # the journal was cut where it stopped to hold


def test_a_half_written_journal_line_is_ignored(tmp_path: Path) -> None:
    _filled(tmp_path, blocks=2)
    journal = tmp_path / "train.journal"
    journal.write_text(journal.read_text() + "6 9 12")
    assert CountStore(tmp_path, "train", (9, 4), 2).done == 6


def test_a_journal_that_holds_is_not_written_again(tmp_path: Path) -> None:
    _filled(tmp_path)
    before = (tmp_path / "train.journal").stat()
    assert CountStore(tmp_path, "train", (9, 4), 2).complete
    after = (tmp_path / "train.journal").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_kill_while_the_journal_is_cut_loses_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _filled(tmp_path, blocks=2)
    journal = tmp_path / "train.journal"
    journal.write_text(journal.read_text() + "6 9 12")

    def full(path: Path, *text: object, **how: object) -> None:
        path.open("w").close()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            CountStore(tmp_path, "train", (9, 4), 2)
    assert CountStore(tmp_path, "train", (9, 4), 2).done == 6


@pytest.mark.parametrize("damage", [b"", b"not an array"])
def test_an_unreadable_store_starts_afresh(tmp_path: Path, damage: bytes) -> None:
    _filled(tmp_path)
    (tmp_path / "train.counts.npy").write_bytes(damage)
    assert CountStore(tmp_path, "train", (9, 4), 2).done == 0


def test_another_shape_or_no_resume_starts_afresh(tmp_path: Path) -> None:
    _filled(tmp_path)
    assert CountStore(tmp_path, "train", (9, 4), 2).complete
    assert CountStore(tmp_path, "train", (9, 4), 2, resume=False).done == 0
    _filled(tmp_path)
    assert CountStore(tmp_path, "train", (9, 5), 2).done == 0


def test_a_damaged_or_missing_state_reads_as_none(tmp_path: Path) -> None:
    path = tmp_path / "init.npz"
    assert read_arrays(path) is None
    write_arrays(path, {"weights": np.arange(1000.0), "done": np.asarray(3)})
    saved = read_arrays(path)
    assert saved is not None and saved["done"] == 3 and [p.name for p in tmp_path.iterdir()] == ["init.npz"]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    assert read_arrays(path) is None
    path.write_bytes(content[:200])
    assert read_arrays(path) is None


def test_keys_and_fingerprints_change_with_their_content() -> None:
    assert cache_key("init", {"a": 1, "b": 2}) == cache_key("init", {"b": 2, "a": 1})
    assert cache_key("init", {"a": 1}) != cache_key("init", {"a": 2}) != cache_key("counts", {"a": 2})
    a = np.arange(6, dtype=np.int32)
    assert fingerprint(a) == fingerprint(a.copy()) != fingerprint(a.reshape(2, 3))
    assert fingerprint(a) != fingerprint(a.astype(np.int64)) and fingerprint(np.zeros(0)) != fingerprint()
