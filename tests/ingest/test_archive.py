"""Sources: hostile archives are refused or fail as members, and content decides the fingerprint."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from helpers.raw_files import tree, walk, zipped
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest import archive
from tasks.ingest.archive import Entry, is_hostile, opened_sources
from tasks.ingest.inventory import inventory, looked_at
from tasks.ingest.tar_headers import HELD_IN_MEMORY
from tasks.runtime.errors import DataError

PATTERN = "*/Trajectory/*.plt"
A, B = "Data/000/Trajectory/a.plt", "Data/001/Trajectory/b.plt"


def states(source: Path) -> dict[str, tuple[str, str]]:
    with opened_sources([source]) as entries:
        return {m.name: (m.state, m.reason) for m in inventory(entries, PATTERN)}


def names(*paths: str) -> list[str]:
    entries = [Entry(path, lambda: io.BytesIO(b"x")) for path in paths]
    return [member.name for member in inventory(entries, PATTERN)]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "C:/x", "..\\x", "a\nb", "a\x00b", "é" * 600]
)
def test_a_name_that_leads_elsewhere_is_hostile(name: str) -> None:
    assert is_hostile(name)


@pytest.mark.parametrize("name", ["a[1].csv", "'; drop table x", "-rf", "a b/ü.plt", "..x/y"])
def test_a_strange_name_is_only_a_name(name: str) -> None:
    assert not is_hostile(name)


@pytest.mark.parametrize("name", ["../../evil.plt", "/etc/Trajectory/evil.plt"])
def test_an_archive_with_a_hostile_name_is_refused_whole(tmp_path: Path, name: str) -> None:
    for source in (
        zipped(tmp_path / "a.zip", {A: walk(0, 3), name: b"x"}),
        tarred(tmp_path / "a.tar.gz", {A: walk(0, 3), name: b"x"}),
    ):
        with pytest.raises(DataError, match="hostile name"), opened_sources([source]):
            pass
    assert not list(tmp_path.parent.glob("evil*"))


def tarred(path: Path, files: dict[str, bytes], *links: tuple[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            made.addfile(info)
    return path


def test_links_are_listed_and_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = tree(tmp_path / "in", {A: walk(0, 3)})
    (folder / B).parent.mkdir(parents=True)
    os.symlink(secret, folder / B)
    link = zipfile.ZipInfo(B)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(A, walk(0, 3))
        made.writestr(link, str(secret))
    for source in (
        folder,
        tmp_path / "a.zip",
        tarred(tmp_path / "a.tgz", {A: walk(0, 3)}, (B, str(secret))),
    ):
        found = states(source)
        assert found["000/Trajectory/a.plt"] == ("ready", "")
        assert found["001/Trajectory/b.plt"][0] == "failed"
        assert "link" in found["001/Trajectory/b.plt"][1]


def test_a_member_that_expands_a_thousandfold_fails(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "a.zip", {A: b"0" * (8 << 20), B: walk(0, 3)})
    assert "expands" in states(bomb)["000/Trajectory/a.plt"][1]
    assert states(bomb)["001/Trajectory/b.plt"][0] == "ready"


def test_a_member_that_lies_about_its_size_fails_too(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "a.zip", {A: b"0\n" * (4 << 20)})
    raw = bytearray(bomb.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    raw[central + 24 : central + 28] = struct.pack("<I", 10)
    bomb.write_bytes(raw)
    assert states(bomb)["000/Trajectory/a.plt"][0] == "failed"


def test_a_gzip_bomb_fails_and_a_tar_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.plt.gz"
    path.write_bytes(gzip.compress(b"0\n" * (8 << 20)))
    with opened_sources([path]) as entries, pytest.raises(archive.Unreadable, match="expands"):
        list(entries[0].chunks())
    bomb = tarred(tmp_path / "a.tar.gz", {A: b"0\n" * (8 << 20)})
    with pytest.raises(DataError, match="expands"), opened_sources([bomb]):
        pass


def sparse_tar(path: Path, num_bytes: int, pax: bool) -> Path:
    """A tar with one member of holes alone, as GNU tar writes them in its two forms."""
    info = tarfile.TarInfo(A)
    if pax:
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": A,
            "GNU.sparse.realsize": str(num_bytes),
        }
        info.size = 512
        sparse_map = f"1\n{num_bytes}\n0\n".encode().ljust(512, b"\0")
        path.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + sparse_map + bytes(1_024))
        return path
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (num_bytes, 0)
    header[483:495] = b"%011o\0" % num_bytes
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    path.write_bytes(bytes(header) + bytes(1_024))
    return path


@pytest.mark.parametrize("pax", [False, True], ids=["gnu", "pax"])
def test_a_sparse_member_fails_and_is_never_written_out(tmp_path: Path, pax: bool) -> None:
    holes = sparse_tar(tmp_path / "a.tar", 6 << 30, pax)
    with opened_sources([holes]) as [entry]:
        assert "is sparse" in entry.problem
        with pytest.raises(archive.Unreadable, match="is sparse"):
            list(entry.chunks())


@pytest.mark.parametrize("kind", HELD_IN_MEMORY)
def test_headers_of_a_tar_are_not_read_into_memory_whole(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 64 << 20
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"8 path=x" * (8 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 1 MiB"), opened_sources([path]):
        pass
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20


@pytest.mark.parametrize("text", [b"x\n", b"99\n1\n", b"-1\n"])
def test_a_broken_sparse_map_is_a_broken_archive(tmp_path: Path, text: bytes) -> None:
    holes = sparse_tar(tmp_path / "a.tar", 1_000, True)
    raw = holes.read_bytes()
    place = raw.rindex(b"1\n1000\n0\n")
    holes.write_bytes(raw[:place] + text.ljust(512, b"\0") + raw[place + 512 :])
    with contextlib.suppress(DataError), opened_sources([holes]) as entries:
        assert [entry.problem for entry in entries] == [
            "is sparse, of holes that were never written"
        ]


def test_encrypted_members_fail_with_their_reason(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {A: walk(0, 3), B: walk(0, 3)})
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    state, reason = states(path)["001/Trajectory/b.plt"]
    assert state == "failed"
    assert reason.startswith("is encrypted: unpack it")
    assert states(path)["000/Trajectory/a.plt"][0] == "ready"


def test_a_truncated_archive_or_stream_is_named(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", {A: walk(0, 300)}).read_bytes()
    cut = tree(tmp_path, {"cut.zip": whole[:-60]}) / "cut.zip"
    with (
        pytest.raises(DataError, match=r"cut\.zip is a broken or truncated zip"),
        opened_sources([cut]),
    ):
        pass
    tar = tarred(tmp_path / "a.tgz", {A: os.urandom(9_000)}).read_bytes()
    cut = tree(tmp_path, {"cut.tgz": tar[:-500]}) / "cut.tgz"
    with (
        pytest.raises(DataError, match=r"cut\.tgz is a broken or truncated tar"),
        opened_sources([cut]),
    ):
        pass
    packed = gzip.compress(os.urandom(9_000))
    folder = tree(tmp_path / "d", {f"{A}.gz": packed[:-500]})
    assert states(folder)["000/Trajectory/a.plt"][0] == "failed"


def test_a_wrong_suffix_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="not a zip archive"),
        opened_sources([tree(tmp_path, {"a.zip": b"plain"}) / "a.zip"]),
    ):
        pass
    folder = tree(tmp_path / "d", {f"{A}.gz": b"plain"})
    assert states(folder)["000/Trajectory/a.plt"] == ("failed", "is no .gz file")


def test_one_name_for_two_contents_is_refused_and_for_one_is_read_once(tmp_path: Path) -> None:
    for second, expected in ((walk(0, 3), 1), (walk(5, 3), None)):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(A, walk(0, 3))
            with pytest.warns(UserWarning, match="Duplicate"):
                made.writestr(A, second)
        if expected:
            assert len(states(path)) == expected
        else:
            with pytest.raises(DataError, match="two different files"):
                states(path)


def test_a_line_without_end_fails_its_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "MAX_LINE_BYTES", 1 << 20)
    folder = tree(tmp_path, {A: b"x" * (3 << 20)})
    assert "longer than" in states(folder)["000/Trajectory/a.plt"][1]


def test_names_begin_where_the_pattern_does() -> None:
    assert names("Release/Data/000/Trajectory/a.plt") == ["000/Trajectory/a.plt"]
    assert names("000/Trajectory/a.plt") == ["000/Trajectory/a.plt"]
    assert names("D/000/Trajectory/a.plt", "D/000/labels.txt", "README") == [
        "000/Trajectory/a.plt",
        "000/labels.txt",
        "README",
    ]
    assert names("D/x/000/Trajectory/a.plt", "D/y/000/Trajectory/a.plt") == [
        "x/000/Trajectory/a.plt",
        "y/000/Trajectory/a.plt",
    ]


def test_what_an_operating_system_left_behind_is_ignored() -> None:
    entries = [
        Entry(path, lambda: io.BytesIO(b"x"))
        for path in ("__MACOSX/000/Trajectory/._a.plt", "000/Trajectory/.a.plt")
    ]
    assert {member.state for member in inventory(entries, PATTERN)} == {"ignored"}


parts = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)


@given(st.lists(parts.map(lambda heads: "/".join([*heads, "000/Trajectory/a.plt"])), max_size=5))
def test_no_two_files_come_to_share_a_name(paths: list[str]) -> None:
    distinct = sorted(set(paths))
    assert len(set(names(*distinct))) == len(distinct)


def test_content_and_names_decide_the_fingerprint(tmp_path: Path) -> None:
    def of(folder: str, files: dict[str, bytes]) -> str:
        return looked_at([tree(tmp_path / folder, files)], PATTERN)[0]

    base = of("a", {A: walk(0, 3), B: walk(9, 3)})
    assert of("elsewhere", {B: walk(9, 3), A: walk(0, 3)}) == base
    assert looked_at([tmp_path / "a" / "Data"], PATTERN)[0] == base
    assert of("b", {A: walk(0, 3), B: walk(9, 4)}) != base
    assert of("c", {A: walk(0, 3)}) != base
    # the user's folder is part of the name, also where there is only one
    assert of("d", {A: walk(0, 3)}) != of("e", {A.replace("000", "001"): walk(0, 3)})


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    folder = tree(tmp_path, {A: walk(0, 3)})
    with opened_sources([folder]) as entries:
        [member] = inventory(entries, PATTERN)
        tree(tmp_path, {A: walk(0, 4)})
        with pytest.raises(DataError, match="changed while it was read"):
            list(member.chunks())


def test_file_ids_are_63_bits_of_name_and_content(tmp_path: Path) -> None:
    folder = tree(tmp_path, {A: b"x", B: b"x"})
    with opened_sources([folder]) as entries:
        ids = {member.name: member.file_id for member in inventory(entries, PATTERN)}
    assert len(set(ids.values())) == 2
    assert all(0 <= file_id < 2**63 for file_id in ids.values())
