"""Schedule, sampler and networks."""

import numpy as np
import pytest
import torch

from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.diffusion_policy import DiffusionPolicy, image_batch
from mechanic_rl_ros.policy.encoder import ImageEncoder, SpatialSoftmax
from mechanic_rl_ros.policy.schedule import add_noise, ddim_sample, ddim_steps, squared_cosine_alphas


def test_the_schedule_falls_from_signal_to_noise():
    alphas = squared_cosine_alphas(50)
    assert bool((alphas.diff() < 0).all())
    assert float(alphas[0]) > 0.99
    assert 0.0 < float(alphas[-1]) < 0.01


def test_the_sampler_visits_the_noisiest_step_first_and_the_cleanest_last():
    assert ddim_steps(50, 5) == [49, 37, 24, 12, 0]
    assert ddim_steps(50, 1) == [49]


def test_the_sampler_recovers_the_clean_sample_from_a_perfect_denoiser():
    alphas, clean = squared_cosine_alphas(50), torch.rand(3, 8, 4) * 2 - 1

    def predict(sample, step):
        return (sample - alphas[step].sqrt() * clean) / (1 - alphas[step]).sqrt()

    torch.testing.assert_close(ddim_sample(predict, torch.randn(3, 8, 4), alphas, ddim_steps(50, 5)), clean, atol=1e-4, rtol=1e-4)


def test_samples_are_clipped_to_the_range_of_actions():
    alphas = squared_cosine_alphas(50)
    sample = ddim_sample(lambda sample, step: torch.full_like(sample, 100.0), torch.randn(3, 8, 4), alphas, ddim_steps(50, 5))
    assert float(sample.abs().max()) <= 1.0


def test_after_clipping_the_sampler_goes_on_with_the_noise_that_fits_the_clipped_sample():
    alphas, start, seen = squared_cosine_alphas(50), torch.full((1, 8, 4), 2.0), []

    def predict(sample, step):
        seen.append(sample)
        return torch.zeros_like(sample)

    ddim_sample(predict, start, alphas, [24, 0])
    noise = (start - alphas[24].sqrt()) / (1 - alphas[24]).sqrt()  # 2 / sqrt(alpha) is clipped to 1
    torch.testing.assert_close(seen[1], alphas[0].sqrt() + (1 - alphas[0]).sqrt() * noise)


def test_noising_keeps_the_variance():
    alphas = squared_cosine_alphas(50)
    noisy = add_noise(torch.randn(4000, 8), torch.randn(4000, 8), alphas[torch.randint(50, (4000,))])
    assert float(noisy.var()) == pytest.approx(1.0, abs=0.05)


def test_the_spatial_softmax_finds_a_peak():
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, 3, 9] = 50.0
    x, y = SpatialSoftmax()(maps)[0].tolist()
    assert x == pytest.approx(-1 + 2 * 9 / 11, abs=1e-3)
    assert y == pytest.approx(-1 + 2 * 3 / 11, abs=1e-3)


def test_features_of_a_frame_do_not_depend_on_the_batch():
    encoder, images = ImageEncoder(32), torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8)
    torch.testing.assert_close(encoder(images)[2:3], encoder(images[2:3]), atol=1e-5, rtol=1e-4)


def test_images_keep_their_channels_and_rows():
    image = np.zeros((1, 6, 4, 3), np.uint8)
    image[0, 5, 1, 2] = 200
    assert int(image_batch(image)[0, 2, 5, 1]) == 200


def test_one_observation_stands_for_a_batch(checkpoint):
    denoiser, critic, config = Denoiser(checkpoint.config), TwinQ(checkpoint.config), checkpoint.config
    observation, chunks = torch.randn(1, config.observation_dim), torch.randn(6, 8, 4)
    alone = denoiser(chunks, torch.tensor([3]), observation)
    torch.testing.assert_close(alone, denoiser(chunks, torch.full((6,), 3), observation.expand(6, -1)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(critic(observation, chunks), critic(observation.expand(6, -1), chunks), atol=1e-5, rtol=1e-4)


def test_the_two_q_functions_are_independent_and_judge_what_is_executed(checkpoint):
    critic, observation, chunks = TwinQ(checkpoint.config), torch.randn(6, checkpoint.config.observation_dim), torch.randn(6, 8, 4)
    first, second = critic(observation, chunks)
    assert not torch.allclose(first, second)
    later = chunks.clone()
    later[:, 4:] = 0.0
    assert torch.equal(critic(observation, later), critic(observation, chunks))


def test_a_frame_unlike_all_demonstrations_is_bounded(checkpoint):
    policy = DiffusionPolicy(checkpoint.config)
    policy.set_statistics(torch.randn(100, checkpoint.config.frame_dim))
    assert float(policy.observe(torch.full((1, 2, checkpoint.config.frame_dim), 1e6)).max()) == 5.0


def test_the_denoising_loss_of_a_sample_depends_on_that_sample_alone(checkpoint):
    policy = DiffusionPolicy(checkpoint.config)
    observation, actions = torch.randn(4, checkpoint.config.observation_dim), torch.rand(4, 8, 4)
    before = policy.denoising_loss(observation, actions, torch.Generator().manual_seed(0))
    actions[0] = 0.9
    after = policy.denoising_loss(observation, actions, torch.Generator().manual_seed(0))
    assert before[0] != after[0]
    torch.testing.assert_close(before[1:], after[1:])
