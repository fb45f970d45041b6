"""The folders that a fake host grants: in a temporary one, which is removed with the host."""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

# A name that no granted folder has: what isn't granted isn't there.
_NOWHERE = ".not-granted"


class Files:
    """The granted folders, by their names in the sandbox."""

    def __init__(self, dirs: Iterable[str], files: Mapping[str, str | bytes]) -> None:
        self._granted: list[PurePosixPath] = []
        self._root: Path | None = None
        for folder in dirs:
            self._grant(_inside(folder))
        for path, content in files.items():
            file = _inside(path)
            if not self._is_granted(file):
                self._grant(file.parent)
            place = self.path(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)

    def path(self, path: str) -> Path:
        """Where a path of the sandbox is."""
        inside = _inside(path)
        if self._root is None:
            return Path(tempfile.gettempdir(), _NOWHERE, inside)
        return self._root / inside if self._is_granted(inside) else self._root / _NOWHERE / inside

    def _grant(self, folder: PurePosixPath) -> None:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="sandhog-fake-"))
            weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        (self._root / folder).mkdir(parents=True, exist_ok=True)
        self._granted.append(folder)

    def _is_granted(self, inside: PurePosixPath) -> bool:
        return any(inside.is_relative_to(folder) for folder in self._granted)


def _inside(path: str) -> PurePosixPath:
    """A path from the sandbox's root on. What leads above the root leads nowhere."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != "/":
            parts.append(part)
    return PurePosixPath(*parts)
