"""Noise schedules and samplers: their properties, and equality with the library that existing checkpoints were trained with."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from mechanic_rl_ros.policy.inpainting import Inpainting
from mechanic_rl_ros.policy.schedule import NoiseSchedule

DIFFUSERS = {"squared_cosine": "squaredcos_cap_v2", "linear": "linear"}
DEFAULT = NoiseSchedule()


def theirs(schedule: NoiseSchedule, kind):
    return kind(
        num_train_timesteps=schedule.steps,
        beta_schedule=DIFFUSERS[schedule.curve],
        prediction_type=schedule.prediction,
        clip_sample=schedule.clipping != "none",
        timestep_spacing=schedule.spacing,
    )


def network(sample, step):
    """Some smooth function of the sample and the step."""
    return torch.sin(2.0 * sample) + 0.3 * torch.cos(sample * 0.01 * step)


@pytest.mark.parametrize("curve", DIFFUSERS)
def test_the_schedule_falls_from_signal_to_noise(curve):
    alphas = NoiseSchedule(curve, steps=100).alphas
    assert bool((alphas.diff() < 0).all())
    assert float(alphas[0]) > 0.99
    assert 0.0 < float(alphas[-1]) < 0.4


@pytest.mark.parametrize("curve", DIFFUSERS)
@pytest.mark.parametrize("steps", [10, 50, 100, 1000])
def test_noising_equals_that_of_diffusers(curve, steps):
    schedule, generator = NoiseSchedule(curve, steps), torch.Generator().manual_seed(0)
    clean, noise = torch.randn(64, 8, 4, generator=generator), torch.randn(64, 8, 4, generator=generator)
    where = torch.randint(steps, (64,), generator=generator)
    torch.testing.assert_close(schedule.add_noise(clean, noise, where), theirs(schedule, DDPMScheduler).add_noise(clean, noise, where), atol=1e-5, rtol=1e-5)


def trajectory(schedule: NoiseSchedule, seed=None):
    """All samples on the way of our sampler, the start first."""
    seen = []

    def predict(sample, place):
        seen.append(sample.clone())
        return network(sample, schedule.visited[place])

    generator = None if seed is None else torch.Generator().manual_seed(seed)
    end = schedule.sample(predict, torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1)), generator)
    return [*seen, end]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_sampler_of_more_steps_makes_no_more_tensors(sampler):
    noise = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1))
    inpaint = Inpainting(torch.zeros(8, 4), torch.full((8, 1), 0.5))

    def made(steps: int) -> int:
        schedule = NoiseSchedule("squared_cosine", 50, steps, "epsilon", sampler, "leading", "plain")
        schedule.sample(lambda sample, place: noise, noise, inpaint=inpaint.spread(steps))  # what is computed once per policy
        into = inpaint.spread(steps)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            schedule.sample(lambda sample, place: noise, noise, inpaint=into)
        return sum(event.cpu_memory_usage >= noise.nbytes for event in profile.events())

    assert 0 < made(5) == made(25)


def assert_same_step(ours, theirs):
    # Step by step, from the same sample: without clipping, closed loops grow without bound and drift apart.
    torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1.0, float(theirs.abs().max())), rtol=1e-5)


@pytest.mark.parametrize("curve", DIFFUSERS)
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("clipping", ["consistent", "plain", "none"])
@pytest.mark.parametrize(("steps", "count"), [(50, 1), (50, 5), (50, 10), (50, 50), (100, 16), (100, 100), (1000, 1000)])
def test_ddim_equals_that_of_diffusers(curve, prediction, clipping, steps, count):
    schedule = NoiseSchedule(curve, steps, count, prediction, "ddim", "leading", clipping)
    other, samples = theirs(schedule, DDIMScheduler), trajectory(schedule)
    other.set_timesteps(count)
    assert other.timesteps.tolist() == schedule.visited
    for step, sample, after in zip(other.timesteps, samples, samples[1:], strict=False):
        assert_same_step(after, other.step(network(sample, step), step, sample, use_clipped_model_output=clipping == "consistent").prev_sample)


@pytest.mark.parametrize("curve", DIFFUSERS)
@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize("clipping", ["plain", "none"])
@pytest.mark.parametrize(("steps", "count"), [(50, 1), (50, 5), (50, 50), (100, 100), (1000, 1000)])
def test_ddpm_equals_that_of_diffusers(curve, prediction, clipping, steps, count):
    schedule = NoiseSchedule(curve, steps, count, prediction, "ddpm", "leading", clipping)
    other, samples, generator = theirs(schedule, DDPMScheduler), trajectory(schedule, seed=2), torch.Generator().manual_seed(2)
    other.set_timesteps(count)
    assert other.timesteps.tolist() == schedule.visited
    for step, sample, after in zip(other.timesteps, samples, samples[1:], strict=False):
        assert_same_step(after, other.step(network(sample, step), step, sample, generator=generator).prev_sample)


def test_the_sampler_visits_the_noisiest_step_first_and_the_cleanest_last():
    assert DEFAULT.visited == [49, 37, 24, 12, 0]
    assert NoiseSchedule(sampling_steps=1).visited == [49]


@pytest.mark.parametrize("steps", [20, 50, 100, 1000])
def test_the_default_spacing_visits_the_steps_that_diffusers_visits(steps):
    for count in range(2, steps + 1, max(1, steps // 100)):
        other = DDIMScheduler(num_train_timesteps=steps, timestep_spacing="linspace")
        other.set_timesteps(count)
        assert NoiseSchedule(steps=steps, sampling_steps=count).visited == other.timesteps.tolist()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_sampler_recovers_the_clean_sample_from_a_perfect_denoiser(sampler):
    schedule, clean = NoiseSchedule(sampler=sampler), torch.rand(3, 8, 4) * 2 - 1

    def predict(sample, place):
        alpha = schedule.alphas[schedule.visited[place]]
        return (sample - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    torch.testing.assert_close(schedule.sample(predict, torch.randn(3, 8, 4)), clean, atol=1e-4, rtol=1e-4)


def test_samples_are_clipped_to_the_range_of_actions():
    sample = DEFAULT.sample(lambda sample, place: torch.full_like(sample, 100.0), torch.randn(3, 8, 4))
    assert float(sample.abs().max()) <= 1.0


def test_after_clipping_the_sampler_goes_on_with_the_noise_that_fits_the_clipped_sample():
    schedule, start, seen = NoiseSchedule(sampling_steps=2), torch.full((1, 8, 4), 2.0), []

    def predict(sample, place):
        seen.append(sample.clone())
        return torch.zeros_like(sample)

    schedule.sample(predict, start)
    first, last = schedule.alphas[49], schedule.alphas[0]
    noise = (start - first.sqrt()) / (1 - first).sqrt()  # 2 / sqrt(alpha) is clipped to 1
    torch.testing.assert_close(seen[1], last.sqrt() + (1 - last).sqrt() * noise)


def test_noising_keeps_the_variance():
    noisy = DEFAULT.add_noise(torch.randn(4000, 8), torch.randn(4000, 8), torch.randint(50, (4000,)))
    assert float(noisy.var()) == pytest.approx(1.0, abs=0.05)
