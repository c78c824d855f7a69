"""Debian packages read as archives, and what is said of damaged ones."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gonzo.lab import LabError
from gonzo.lab.data.deb_archive import read_deb

FILES = {"usr/share/doc/a/index.html": b"<p>one</p>", "usr/bin/a": b"\x7fELF", "b": b""}


def tar(files: dict[str, bytes], compression: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:  # ty: ignore[no-matching-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("./usr/share/doc/a/link.html")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(data_name: str, data: bytes) -> bytes:
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", data_name: data})


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz"])
def test_regular_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a_1_all.deb"
    path.write_bytes(deb(f"data.tar{suffix}", tar(FILES, suffix.removeprefix("."))))
    assert dict(read_deb(path, lambda _: True)) == FILES
    assert dict(read_deb(path, lambda name: name.endswith(".html"))) == {
        "usr/share/doc/a/index.html": b"<p>one</p>"
    }


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not on this machine")
@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_what_dpkg_builds_is_read(tmp_path: Path, compression: str) -> None:
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    root.chmod(0o755)
    (root / "DEBIAN").chmod(0o755)
    (root / "DEBIAN" / "control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\n"
        "Description: one\n"
    )
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    path = tmp_path / "a_1_all.deb"
    subprocess.run(
        ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", str(root), str(path)],
        check=True,
        capture_output=True,
    )
    assert dict(read_deb(path, lambda _: True)) == FILES


def fake_dpkg(folder: Path, script: str) -> None:
    program = folder / "dpkg-deb"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_zstd_goes_through_dpkg_deb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a_1_all.deb"
    path.write_bytes(deb("data.tar.zst", b"\x28\xb5\x2f\xfd"))
    (tmp_path / "data.tar").write_bytes(tar(FILES, ""))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fake_dpkg(tmp_path, f'test "$1 $2" = "--fsys-tarfile {path}" && cat {tmp_path}/data.tar')
    assert dict(read_deb(path, lambda _: True)) == FILES
    fake_dpkg(tmp_path, "echo it is not zstd >&2; exit 2")
    with pytest.raises(LabError, match=r"not a readable Debian package \(it is not zstd\)"):
        list(read_deb(path, lambda _: True))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(LabError, match="zstd, which is read through the program dpkg-deb"):
        list(read_deb(path, lambda _: True))


WHOLE = deb("data.tar.xz", tar(FILES, "xz"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "does not start as an ar archive"),
        (b"<html>not found</html>", "does not start as an ar archive"),
        (WHOLE[:30], "an ar header is damaged"),
        (WHOLE.replace(b"`\n", b"'\n", 1), "an ar header is damaged"),
        (WHOLE.replace(b"4         `", b"four      `", 1), "the size of debian-binary is damaged"),
        (WHOLE[:-40], r"data\.tar\.xz ends after [\d,]+ of [\d,]+ bytes"),
        (WHOLE.replace(b"data.tar.xz", b"data.tar.gz"), "not a gzip file"),
        (deb("data.tar.bz2", b""), r"expected data\.tar, compressed .* got data\.tar\.bz2"),
        (ar({"debian-binary": b"2.0\n"}), r"it ends before its data\.tar"),
        (deb("data.tar.gz", tar(FILES, "gz")[:-30]), "(?i)end"),
        (deb("data.tar.xz", tar(FILES, "xz")[:90]), "(?i)end|not an lzma file"),
    ],
)
def test_damage_is_said(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "a_1_all.deb"
    path.write_bytes(content)
    with pytest.raises(LabError, match=complaint) as caught:
        list(read_deb(path, lambda _: True))
    assert str(path) in str(caught.value)
    assert "Remove it and start again" in str(caught.value)
    assert path.read_bytes() == content


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    wanted: Callable[[str], bool] = bool
    with pytest.raises(LabError, match="No such file"):
        list(read_deb(tmp_path / "absent.deb", wanted))
