import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.yaml_file import read_yaml


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "is not valid YAML"),
        (b"shift: 2026-99-99", "is not valid YAML: month must be in 1..12"),
        (b"[" * 10_000, "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_with_one_line_that_names_it(tmp_path, content, words):
    path = tmp_path / "odd.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_yaml(path, "recipe", "write one")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_embodiment_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "arm.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"embodiment .* is not valid YAML"):
        load_embodiment(tmp_path / "arm.yaml")
