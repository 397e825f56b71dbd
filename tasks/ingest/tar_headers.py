"""Tar headers of bounded size: what belongs to them, such as long names, is read into memory."""

from __future__ import annotations

import tarfile

MAX_HEADER_BYTES = 1 << 20
HELD_IN_MEMORY = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class BoundedHeader(tarfile.TarInfo):
    """The header of a member, refused where it is larger than any that was made in earnest."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in HELD_IN_MEMORY and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADER_BYTES >> 20} MiB")
        made: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return made
