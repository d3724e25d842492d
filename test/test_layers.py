"""Rules about what may import what, checked in the source of every module."""

import ast
from pathlib import Path

import pytest

import mechanic_rl_ros

ROOT = Path(mechanic_rl_ros.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
GENERATED = {"msg", "srv"}
CORE = [path for path in MODULES if not {"nodes", "mocks"} & set(path.relative_to(ROOT).parts) and not GENERATED & set(path.relative_to(ROOT).parts)]
OWN = [path for path in MODULES if not GENERATED & set(path.relative_to(ROOT).parts)]
ROS = {
    "rclpy",
    "rcl_interfaces",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "geometry_msgs",
    "trajectory_msgs",
    "diagnostic_msgs",
    "lifecycle_msgs",
    "action_msgs",
    "control_msgs",
    "controller_manager_msgs",
    "franka_msgs",
    "rosgraph_msgs",
    "builtin_interfaces",
    "visualization_msgs",
    "tf2_msgs",
    "launch",
    "launch_ros",
}
INERT = "importing/inert.py"  # reads others' pickles with an unpickler that imports nothing; test/importing shows that
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def imported(tree):
    """Full names of everything that is imported anywhere in a module."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module:
            yield from (f"{item.module}.{alias.name}" for alias in item.names)


def called(tree):
    """Dotted names of everything that is called."""
    return [ast.unparse(item.func) for item in ast.walk(tree) if isinstance(item, ast.Call)]


def violations(source):
    """What a module of the core may not do."""
    tree = ast.parse(source)
    names = list(imported(tree))
    found = [
        name for name in names if name.split(".")[0] in ROS | UNSAFE or name.startswith(("mechanic_rl_ros.msg", "mechanic_rl_ros.srv", "mechanic_rl_ros.nodes"))
    ]
    return found + unsafe_calls(tree)


def unsafe_calls(tree):
    found = [name for name in called(tree) if name in ("torch.load", "torch.save", "eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system")]
    allowing = [ast.unparse(item) for item in ast.walk(tree) if isinstance(item, ast.keyword) and item.arg == "allow_pickle" and not is_false(item.value)]
    return found + allowing


def is_false(value):
    return isinstance(value, ast.Constant) and value.value is False


def name_of(path):
    return str(path.relative_to(ROOT))


def test_there_are_modules_to_look_at():
    assert {"nodes/base.py", "episode.py", "cli/main.py"} <= set(map(name_of, OWN))
    assert "nodes/base.py" not in set(map(name_of, CORE))


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_nothing_of_ros(path):
    assert violations(path.read_text()) == (["pickle"] if name_of(path) == INERT else [])


def test_the_reader_of_pickles_uses_nothing_but_an_unpickler_that_looks_nothing_up():
    tree = ast.parse((ROOT / INERT).read_text())
    uses = {ast.unparse(item) for item in ast.walk(tree) if isinstance(item, ast.Attribute) and ast.unparse(item).startswith("pickle.")}
    readers = [item for item in ast.walk(tree) if isinstance(item, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, item.bases)]
    assert uses == {"pickle.Unpickler"}
    assert all({"find_class", "persistent_load"} <= {part.name for part in reader.body if isinstance(part, ast.FunctionDef)} for reader in readers)
    assert "super()" not in ast.unparse(tree)
    assert not {"getattr", "__import__", "importlib.import_module"} & set(called(tree))


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_nothing_that_could_run_foreign_code_is_used(path):
    tree = ast.parse(path.read_text())
    assert [name for name in imported(tree) if name.split(".")[0] in UNSAFE] == (["pickle"] if name_of(path) == INERT else [])
    assert unsafe_calls(tree) == []


@pytest.mark.parametrize(
    "source",
    [
        "import rclpy",
        "def f():\n    from sensor_msgs.msg import Image",
        "import pickle",
        "from mechanic_rl_ros import msg",
        "x = torch.load('a')",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_a_breach_of_the_rules_is_found(source):
    assert violations(source)
