"""A folder of episode files that one process writes and any number read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.replay.atomic import write_atomically
from mechanic_rl_ros.replay.episode_file import SUFFIX, EpisodeError, decode_episode, encode_episode, read_episode

_NAME = re.compile(r"(\d{6,})_(.+)\.mcap")
_TEMPORARY = re.compile(r"\..+\.mcap\.(\d+)\.tmp")


class EpisodeStore:
    """Episodes as ``000000_<id>.mcap``, numbered in the order in which they were added.

    The folder may be looked at, copied or killed at any moment: every file that has its final name is complete.

    Attributes:
        folder: Where the files lie.
        corrupt: Files that were skipped, with the reason; filled by ``load`` and ``readable``.
    """

    def __init__(self, folder: str | os.PathLike[str], embodiment: Embodiment | None = None) -> None:
        """Looks at ``folder``, which is made by the first ``add``. ``embodiment`` is what every episode must have been recorded with; None takes any."""
        self.folder = Path(folder)
        self.corrupt: dict[Path, str] = {}
        self._embodiment = embodiment

    def __len__(self) -> int:
        return len(self.paths())

    def paths(self) -> list[Path]:
        """The episode files in order. Other files are left alone."""
        if not self.folder.is_dir():
            return []
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), key=lambda path: (_number(path), path.name))

    def path(self, id: str) -> Path | None:
        """The file of the episode ``id``, or None."""
        return next((path for path in self.paths() if _id(path) == id), None)

    def add(self, episode: Episode) -> Path:
        """Writes an episode and returns its file; one that is here already is not written again.

        Raises:
            EpisodeError: The episode is malformed.
            OSError: The folder cannot be written, or the disk is full. Nothing half-written is left.
        """
        return self._add(episode.id, encode_episode(episode))

    def add_bytes(self, data: bytes) -> tuple[Path, Episode]:
        """Checks an episode that came as the bytes of its file, and stores exactly these.

        Raises:
            EpisodeError: It is damaged, or of another embodiment.
            OSError: As ``add``.
        """
        episode = decode_episode(data, self._embodiment)
        return self._add(episode.id, data), episode

    def load(self) -> Iterator[Episode]:
        """Yields the readable episodes in order; the others are skipped and noted in ``corrupt``."""
        return (episode for _, episode in self._read())

    def readable(self) -> list[Path]:
        """The files that ``load`` reads, in order; the others are noted in ``corrupt``."""
        return [path for path, _ in self._read()]

    def clean(self) -> list[Path]:
        """Removes what writers left that were killed half way, and returns it. Files of a writer that is alive stay."""
        removed = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _TEMPORARY.fullmatch(path.name)
            if match and not _alive(int(match[1])):
                path.unlink(missing_ok=True)
                removed.append(path)
        return removed

    def _read(self) -> Iterator[tuple[Path, Episode]]:
        self.corrupt.clear()
        for path in self.paths():
            try:
                yield path, read_episode(path, self._embodiment)
            except EpisodeError as error:
                self.corrupt[path] = str(error)

    def _add(self, id: str, data: bytes) -> Path:
        existing = self.path(id)
        if existing is not None:
            return existing
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        paths = self.paths()
        path = self.folder / f"{_number(paths[-1]) + 1 if paths else 0:06d}_{id}{SUFFIX}"
        write_atomically(path, data)
        return path


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _id(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return match[2] if match else ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
