"""``mechanic-rl study``, with practice far too short to learn anything."""

import json

import pytest

SHORT = ("--problems", "lift", "--cells", "tuner,adamw_1e-03_1e-03", "--seeds", 1, "--episodes", 3, "--scenes", 4, "--workers", 2)


def test_a_study_writes_a_file_for_every_run_a_table_and_a_picture_and_goes_on_where_it_stopped(run, tmp_path):
    folder = tmp_path / "study"
    done = run("study", "--output", folder, *SHORT)
    assert done.returncode == 0, done.stderr
    files = sorted(folder.glob("lift/*/seed0.json"))
    assert [path.parent.name for path in files] == ["adamw_1e-03_1e-03", "relative"]
    record = json.loads(files[1].read_text())
    assert [look["episodes"] for look in record["curve"]] == [1, 2, 3]
    assert record["success"] == record["curve"][-1]["success"]
    assert "| relative |" in done.stdout
    assert "base policy" in done.stdout
    assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")
    assert "relative" in (folder / "study.md").read_text()

    before, last = files[1].stat().st_mtime_ns, json.loads(files[0].read_text())["curve"][-1]
    files[0].unlink()
    again = run("study", "--output", folder, *SHORT, "--checks", 0)
    assert again.returncode == 0, again.stderr
    (look,) = json.loads(files[0].read_text())["curve"]
    assert {**look, "seconds": 0} == {**last, "seconds": 0}, "looks on the way change nothing"
    assert files[1].stat().st_mtime_ns == before, "what is there is kept"
    assert "relative seed 0" not in again.stderr
    assert run("study", "--output", folder, *SHORT, "--cells", "tuner", "--first-seed", 7).returncode == 0
    assert (folder / "lift" / "relative" / "seed7.json").exists()
    other = run("study", "--output", folder, *SHORT, "--first-scene", 7)
    assert (other.returncode, "was made with first_scene 500000, not 7" in other.stderr) == (1, True)
    assert run("study", "--output", folder, "--show-only").returncode == 0


def test_a_race_leaves_out_seeds_of_what_is_clearly_behind(run, tmp_path):
    folder = tmp_path / "study"
    for cell, success in (("relative", 0.9), ("adamw_1e-03_1e-03", 0.9), ("dog", 0.1)):
        place = folder / "lift" / cell
        place.mkdir(parents=True)
        rate = 1e-3 if cell.startswith("adamw") else 0.0
        record = {"problem": "lift", "tuner": cell.split("_")[0], "actor_rate": rate, "critic_rate": rate, "seed": 5, "success": success}
        (place / "seed5.json").write_text(json.dumps({**record, "curve": [{"episodes": 240, "success": success, "base": 0.4, "best_of_n": False}]}))
    done = run("study", "--output", folder, *SHORT, "--cells", "dog,tuner", "--first-seed", 6, "--race", "--checks", 0)
    assert done.returncode == 0, done.stderr
    assert [path.parent.name for path in folder.glob("lift/*/seed6.json")] == ["relative"]
    assert run("study", "--output", folder, *SHORT, "--cells", "dog", "--first-seed", 6, "--checks", 0).returncode == 0
    assert (folder / "lift" / "dog" / "seed6.json").exists()


def test_without_a_grid_it_says_which_rates_adamw_has_beside_the_learners(run, tmp_path):
    done = run("study", "--output", tmp_path / "study", "--problems", "lift", "--algorithms", "--seeds", 1, "--episodes", 1, "--scenes", 4, "--show-only")
    assert "lift: no grid of rates here yet (--cells grid), so AdamW has the pair that was picked by hand" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--problems", "juggle"), "unknown problem 'juggle'"), (("--cells", "magic"), "unknown cell 'magic'"), (("--show-only",), "no results of a study")],
)
def test_what_it_does_not_know_ends_it_with_one_line(refused, tmp_path, arguments, words):
    assert words in refused("study", "--output", tmp_path / "empty", *arguments)
