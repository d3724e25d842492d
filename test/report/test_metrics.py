"""metrics.jsonl loses no line that was reported, and no reader stumbles over one that was torn."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mechanic_rl_ros.metrics import MetricsTail, MetricsWriter, TensorBoardMirror, read_metrics


def test_records_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        first = writer.write("sim", real_time_factor=np.float32(2.0), wall=5.0)
        second = writer.write("run", task="lift", seed=np.int64(3), checkpoint="c", started=1.0)
    assert first == {"kind": "sim", "real_time_factor": 2.0, "wall": 5.0}
    assert read_metrics(path) == [first, second]


def test_every_line_is_strict_json_even_when_a_figure_is_not_a_number(tmp_path):
    with MetricsWriter(tmp_path / "m") as writer:
        writer.write("sim", real_time_factor=np.float32(np.nan))
        writer.write("sim", real_time_factor=float("inf"))
    assert [json.loads(line, parse_constant=pytest.fail)["real_time_factor"] for line in (tmp_path / "m").read_text().splitlines()] == [None, None]


def test_an_unknown_kind_a_missing_or_an_undeclared_field_is_a_mistake_of_the_program(tmp_path):
    with MetricsWriter(tmp_path / "m") as writer:
        with pytest.raises(ValueError, match="no record of kind 'simulation'"):
            writer.write("simulation")
        with pytest.raises(ValueError, match="lacks real_time_factor"):
            writer.write("sim")
        with pytest.raises(ValueError, match="does not declare speed"):
            writer.write("sim", real_time_factor=1.0, speed=2.0)
    assert (tmp_path / "m").read_bytes() == b""


def test_a_torn_last_line_is_skipped_by_readers_and_closed_by_the_next_writer(tmp_path):
    path = tmp_path / "m"
    with MetricsWriter(path) as writer:
        writer.write("sim", real_time_factor=1.0)
    with open(path, "ab") as file:
        file.write(b'{"kind": "sim", "real_time')
    assert [record["real_time_factor"] for record in read_metrics(path)] == [1.0]
    with MetricsWriter(path) as writer:
        writer.write("sim", real_time_factor=2.0)
    assert [record["real_time_factor"] for record in read_metrics(path)] == [1.0, 2.0]


def test_foreign_lines_are_skipped(tmp_path):
    (tmp_path / "m").write_bytes(b'[]\n3\n\xff\xfe\n{"kind": "other"}\n{"kind": []}\n{"kind": "sim"}\n{"kind": "sim", "real_time_factor": 1, "wall": 2}\n')
    assert len(read_metrics(tmp_path / "m")) == 1


def test_a_tail_gives_each_record_once_however_the_file_grows(tmp_path):
    path = tmp_path / "m"
    tail = MetricsTail(path)
    assert tail.poll() == []
    lines = b"".join(json.dumps({"kind": "sim", "real_time_factor": number, "wall": 0}).encode() + b"\n" for number in range(3))
    seen = []
    for byte in range(len(lines)):
        with open(path, "ab") as file:
            file.write(lines[byte : byte + 1])
        seen += tail.poll()
    assert [record["real_time_factor"] for record in seen] == [0, 1, 2]
    assert tail.poll() == []


def test_a_full_disk_is_reported_and_the_next_record_has_a_line_of_its_own(tmp_path):
    path = tmp_path / "m"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MetricsWriter(path) as writer:
        writer.write("sim", real_time_factor=1.0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="No space left"):
                writer.write("sim", real_time_factor=2.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.write("sim", real_time_factor=3.0)
    assert [record["real_time_factor"] for record in read_metrics(path)] == [1.0, 3.0]


def test_a_killed_writer_loses_no_record_that_it_reported(tmp_path):
    script = (
        "import sys; from mechanic_rl_ros.metrics import MetricsWriter\n"
        "writer = MetricsWriter(sys.argv[1])\n"
        "for number in range(10**9):\n    writer.write('sim', real_time_factor=number); print(number, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "m"], stdout=subprocess.PIPE, text=True, env=environment) as writer:
        for _ in range(50):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    numbers = [record["real_time_factor"] for record in read_metrics(tmp_path / "m")]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= last


def test_tensorboard_reads_the_mirror(run_folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    mirror = TensorBoardMirror(tmp_path / "tensorboard")
    for record in read_metrics(run_folder / "metrics.jsonl"):
        mirror.add(record)
    mirror.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    scales = events.Scalars("scales/actor")
    assert [event.step for event in scales] == list(range(1, 801))
    assert scales[-1].value == pytest.approx(3e-4, rel=0.02)
    assert events.Scalars("learner/actor_scale")[-1].step == 800
    assert {event.value for event in events.Scalars("episode/success")} == {0.0, 1.0}
    assert events.Scalars("evaluation/tuned/successes")[0].value == 148
    assert events.Scalars("sim/real_time_factor")[-1].step == 80


def test_what_did_not_fit_the_disk_is_mirrored_when_there_is_room_again(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    mirror = TensorBoardMirror(tmp_path)
    for number, limit in enumerate((10, 60, limits[0])):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            mirror.add({"kind": "sim", "real_time_factor": float(number)})
            assert limit == limits[0]
        except OSError:
            assert limit != limits[0]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    mirror.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("sim/real_time_factor")] == [1.0, 2.0]


def test_the_mirror_needs_neither_torch_nor_tensorflow(tmp_path):
    script = (
        "import sys; from mechanic_rl_ros.metrics import TensorBoardMirror\n"
        "TensorBoardMirror(sys.argv[1]).add({'kind': 'sim', 'real_time_factor': 1.0})\n"
        "print([name for name in ('torch', 'tensorflow') if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"
