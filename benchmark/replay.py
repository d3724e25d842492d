"""Draws batches of 128 rows, raw images of two cameras included, from 64 GB of episodes in 2 GB of memory.

python benchmark/replay.py /tmp/replay --random 32 > benchmark/results/replay.md

The first ``--random`` GB are episodes of random bytes, added as the learner adds them; the rest of ``--size`` is room in the same files that is read but
not on the disk (sparse). Anonymous memory is limited to ``--memory`` by the kernel (RLIMIT_DATA). Memory that only mirrors files is not under that limit:
as soon as more of the replay's files is in memory than is left, all of it is thrown out, which is harder than what the kernel does when memory runs out.
Where a cgroup can be had, the whole limit is the kernel's: systemd-run --scope -p MemoryMax=2G python benchmark/replay.py ... --no-eviction
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import shutil
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import torch

from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql, FilteredIqlConfig
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.replay.rows import Rows

GB = 1024**3
STEPS = 99
ROWS = 128
POOL = 64 * 1024 * 1024


class Student(FilteredIql):
    """Learns from rows that it is given."""

    rows: Rows

    def sample(self) -> Rows:
        """These rows."""
        return self.rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new folder for the files, removed in the end")
    parser.add_argument("--size", type=float, default=64.0, help="GB of episodes")
    parser.add_argument("--random", type=float, default=32.0, help="GB of them that are random bytes on the disk")
    parser.add_argument("--memory", type=float, default=2.0, help="GB that the process may use")
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--no-eviction", action="store_true", help="leave it to the kernel what of the files stays in memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    learner = Student.create(replace(FilteredIqlConfig(), critic_updates=0), Checkpoint.load("checkpoints/lift"))
    options.folder.mkdir()
    try:
        replay = fill(learner, options)
        limit = int(options.memory * GB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        report(learner, replay, options)
    finally:
        shutil.rmtree(options.folder)


def fill(learner: Student, options: argparse.Namespace) -> ReplayBuffer:
    """A replay of ``--size``, with priorities."""
    config, cameras = learner.checkpoint.config, learner.checkpoint.embodiment.cameras
    sizes = {key: (camera.height, camera.width) for key, camera in cameras.items()}
    record = sum(height * width * 3 for height, width in sizes.values()) + config.frame_dim * 4
    capacity = int(options.size * GB / record)
    replay = ReplayBuffer(config, capacity, 0.97, folder=options.folder / "replay", images=sizes, alpha=0.6)
    pool, noise = torch.randint(256, (POOL,), dtype=torch.uint8), torch.randn(POOL // 64)
    started = time.perf_counter()

    def some(source: torch.Tensor, *shape: int) -> torch.Tensor:
        count = torch.Size(shape).numel()
        first = int(torch.randint(len(source) - count, ()))
        return source[first : first + count].view(shape)

    while replay._head * record < options.random * GB:
        images = {key: some(pool, STEPS + 1, *size, 3) for key, size in sizes.items()}
        frames, actions = some(noise, STEPS + 1, config.frame_dim), some(noise, STEPS, config.action_dim).tanh()
        replay.add(frames, actions, torch.zeros(STEPS), replay.episodes % 2 == 0, True, f"e{replay.episodes}", images)
    seconds, added = time.perf_counter() - started, replay.episodes
    replay.state()
    while replay._head + 2 * STEPS < capacity:  # as ``add``, but nothing is written
        held = replay._next_place(STEPS + 1)
        for name in replay._types:
            replay._frames._grow(name, held.start + held.frames)
        replay._append(held)
        replay._priorities[replay._row_slots(held)] = 1.0
    replay.update_priorities(replay.positions()[::7], torch.rand(len(replay.positions()[::7])) * 5)
    print(f"Measured {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, one thread, torch {torch.__version__}.\n")
    print(
        f"{replay.episodes} episodes of {STEPS} steps, {len(replay)} rows, {replay._head * record / GB:.1f} GB, of which the first {options.random:.0f} GB are"
    )
    print(f"random bytes on the disk and the rest is sparse. Added at {added / seconds:.0f} episodes/s ({added / seconds * (STEPS + 1):.0f} frames/s).\n")
    return replay


def report(learner: Student, replay: ReplayBuffer, options: argparse.Namespace) -> None:
    """The table: every way of drawing, from all episodes and from those on the disk."""
    print("| drawn | rows | rows/s | ms per batch, min / median / max | share of an update | anonymous, peak | files in memory, peak |")
    print("|---|---|---|---|---|---|---|")
    on_disk = int(torch.searchsorted(replay.positions(), int(options.random / options.size * replay._head)))
    forget(replay)
    for images in (False, True):
        for where in ("all, uniform", "all, prioritised", "on disk, uniform"):
            times, updates, anonymous, mirrored = [], [], 0, 0
            for number in range(options.batches):
                started = time.perf_counter()
                if where == "all, prioritised":
                    rows = replay.sample(ROWS, learner.generator, beta=0.4)
                else:
                    among = len(replay) if where == "all, uniform" else on_disk
                    rows = replay.rows(replay._index.positions(torch.randint(among, (ROWS,), generator=learner.generator)))
                seen = replay.images(rows.positions) if images else {}
                assert all(bool(tensor.any()) or where != "on disk, uniform" for tensor in seen.values())
                drawn = time.perf_counter()
                learner.rows = rows
                learner.learn()
                learner.updates += 1
                replay.update_priorities(rows.positions, torch.rand(ROWS))
                times.append(drawn - started)
                updates.append(time.perf_counter() - started)
                if number % 20 == 0:
                    anonymous, cached = max(anonymous, private()), in_memory(replay)
                    mirrored = max(mirrored, cached)
                    if not options.no_eviction and private() + cached > 0.9 * options.memory * GB:
                        forget(replay)
            low, median, high = 1e3 * min(times), 1e3 * statistics.median(times), 1e3 * max(times)
            share = sum(times) / sum(updates)
            kind = "with images" if images else "features"
            print(
                f"| {where} | {kind} | {ROWS * len(times) / sum(times):.0f} | {low:.2f} / {median:.2f} / {high:.2f} | {100 * share:.0f} % |"
                f" {anonymous / GB:.2f} GB | {mirrored / GB:.2f} GB |"
            )


def private() -> int:
    """Anonymous bytes of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def in_memory(replay: ReplayBuffer) -> int:
    """Bytes of the replay's files that are in memory, whoever read them."""
    paths = [str(replay._frames.folder / f"{name}.bin") for name in replay._types]
    return sum(int(size) for size in subprocess.run(["fincore", "-bno", "RES", *paths], capture_output=True, text=True, check=True).stdout.split())


def forget(replay: ReplayBuffer) -> None:
    """Throws the files out of memory."""
    for name, mapped in replay._frames._maps.items():
        mapped.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(replay._frames._files[name].fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
