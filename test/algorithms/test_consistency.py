"""Consistency distillation: one network evaluation that arrives where the teacher's many do."""

import dataclasses

import pytest
import torch

from mechanic_rl_ros.algorithms.consistency import ConsistencyConfig, Pairs, distil, one_step
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.part_config import DeterministicConfig, MlpDenoiserConfig, TransformerDenoiserConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import NoiseSchedule
from mechanic_rl_ros.replay.buffer import ReplayBuffer
from mechanic_rl_ros.rollout import run_episode
from mechanic_rl_ros.tuner import RelativeMechanic

DENOISERS = {
    "mlp": MlpDenoiserConfig(width=64, depth=2, condition=32),
    "unet": UnetDenoiserConfig(widths=(16, 24), groups=4, step_width=16),
    "transformer": TransformerDenoiserConfig(layers=1, heads=2, width=24),
}
BRIEF = ConsistencyConfig(updates=2, batch=8)


def with_policy(checkpoint: Checkpoint, **changes) -> Checkpoint:
    torch.manual_seed(0)
    config = dataclasses.replace(checkpoint.config, **changes)
    return dataclasses.replace(checkpoint, config=config, policy=Policy(config).state_dict())


@pytest.fixture
def taught(checkpoint) -> Checkpoint:
    """A teacher that has learned demonstrations of which nobody can see beforehand how far they go: its chunk depends on the noise."""
    teacher, generator = with_policy(checkpoint, head=DENOISERS["mlp"]), torch.Generator().manual_seed(0)
    far = 0.8 * torch.rand(40, 1, 1, generator=generator).mul(2.0).sub(1.0).expand(-1, 9, 4)
    frames = torch.zeros(9 * len(far), teacher.config.frame_dim)
    teacher.demonstrations = {"frames": frames.half(), "actions": far.flatten(0, 1).half(), "lengths": torch.full((len(far),), 9)}
    buffer = ReplayBuffer(teacher.config, len(frames), gamma=1.0)
    buffer.add_demonstrations(teacher.demonstrations)
    policy = teacher.build_policy()
    tuner = RelativeMechanic(policy.head.parameters())
    for _ in range(600):
        rows = buffer.sample(128, generator)
        tuner.zero_grad()
        policy.loss(policy.observe(rows.frames), rows.chunks, generator).mean().backward()
        tuner.step()
    torch._foreach_copy_([parameter.data for parameter in policy.head.parameters()], tuner.averages())
    teacher.policy = policy.state_dict()
    return teacher


def test_the_student_arrives_in_one_step_where_the_teacher_does_from_the_same_noise_and_from_anywhere_on_the_way(taught):
    student = distil(taught, ConsistencyConfig(updates=600))
    teacher, pupil = taught.build_policy().head, student.build_policy().head
    observation, noise = torch.zeros(1, taught.config.observation_dim), torch.randn(200, 8, 4, generator=torch.Generator().manual_seed(1))
    end, way = teacher.decode(observation, noise), noise
    spread = (end - end.mean(dim=0)).square().mean()
    for step, move in zip(taught.config.schedule.visited, taught.config.schedule.moves, strict=True):
        answer = pupil.denoise(way, pupil.condition(torch.tensor([step]), observation))
        assert (answer - end).square().mean() < 0.3 * spread
        way = taught.config.schedule.advance(move, way, teacher(way, torch.tensor([step]), observation))
    torch.testing.assert_close(way, end, atol=0.01, rtol=0.0)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_at_the_last_place_the_answer_has_to_be_where_the_teacher_arrives_and_before_it_the_students_own(checkpoint, prediction):
    schedule = NoiseSchedule(prediction=prediction, sampling_steps=4)
    teacher = with_policy(checkpoint, head=DENOISERS["mlp"], schedule=schedule).build_policy().head
    student = with_policy(checkpoint, head=DENOISERS["mlp"], schedule=one_step(schedule)).build_policy().head
    pairs, noisy, observation = Pairs(teacher, student, "cpu"), torch.randn(4, 8, 4), torch.randn(4, checkpoint.config.observation_dim)
    target = pairs.target(noisy, torch.arange(4), observation)
    for place, (step, move) in enumerate(zip(schedule.visited, schedule.moves, strict=True)):
        row = slice(place, place + 1)
        expected = schedule.advance(move, noisy[row], teacher(noisy[row], torch.tensor([step]), observation[row]))
        if place < 3:
            expected = student(expected, torch.tensor([schedule.visited[place + 1]]), observation[row]).clamp(-1, 1)
        torch.testing.assert_close(target[row], expected)


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize(
    "schedule", [NoiseSchedule(), NoiseSchedule("linear", 20, 20, "sample", "ddpm", "leading", "plain")], ids=["embedded default", "as of other software"]
)
def test_every_denoiser_can_be_distilled_kept_and_evaluated_with_one_network_evaluation(checkpoint, world, tmp_path, kind, schedule, monkeypatch):
    teacher = with_policy(checkpoint, head=DENOISERS[kind], schedule=schedule)
    distil(teacher, BRIEF, seed=3).save(tmp_path / "student")
    student = Checkpoint.load(tmp_path / "student")
    assert all(torch.equal(tensor, distil(teacher, BRIEF, seed=3).policy[name]) for name, tensor in student.policy.items())
    assert all(torch.equal(tensor, teacher.policy[name]) for name, tensor in student.policy.items() if not name.startswith("head."))
    assert student.signature != teacher.signature
    actor, evaluations = Actor(student), []
    genuine = actor.policy.head.denoise
    monkeypatch.setattr(actor.policy.head, "denoise", lambda noisy, told: evaluations.append(1) or genuine(noisy, told))
    episode = run_episode(world, actor, 0)
    assert len(evaluations) == -(-episode.steps // 4)
    places = Pairs(teacher.build_policy().head, actor.policy.head, "cpu").visited
    assert actor.policy.head.schedule.visited == [places[0]] == [schedule.steps - 1]


def test_what_cannot_be_distilled_is_refused_with_the_reason(checkpoint):
    with pytest.raises(UserError, match="no demonstrations"):
        distil(dataclasses.replace(checkpoint, demonstrations=None), BRIEF)
    with pytest.raises(UserError, match="deterministic head"):
        distil(with_policy(checkpoint, head=DeterministicConfig()), BRIEF)
    with pytest.raises(UserError, match="steered denoiser"):
        distil(with_policy(checkpoint, steering=16), BRIEF)
    with pytest.raises(UserError, match="one network evaluation already"):
        distil(distil(checkpoint, BRIEF), BRIEF)
    assert PolicyConfig.from_dict(distil(checkpoint, BRIEF).config.to_dict()).schedule.sampling_steps == 1
