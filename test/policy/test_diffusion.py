"""Networks and their inputs."""

import numpy as np
import pytest
import torch

from mechanic_rl_ros.policy.critic import TwinQ
from mechanic_rl_ros.policy.encoder import ConvEncoder, SpatialSoftmax
from mechanic_rl_ros.policy.part_config import ConvEncoderConfig
from mechanic_rl_ros.policy.parts import build_head
from mechanic_rl_ros.policy.policy import Policy, image_batch


def test_the_spatial_softmax_finds_a_peak():
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, 3, 9] = 50.0
    x, y = SpatialSoftmax()(maps)[0].tolist()
    assert x == pytest.approx(-1 + 2 * 9 / 11, abs=1e-3)
    assert y == pytest.approx(-1 + 2 * 3 / 11, abs=1e-3)


def test_features_of_a_frame_do_not_depend_on_the_batch():
    encoder, images = ConvEncoder(ConvEncoderConfig()), torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8)
    torch.testing.assert_close(encoder(images)[2:3], encoder(images[2:3]), atol=1e-5, rtol=1e-4)


def test_images_keep_their_channels_and_rows():
    image = np.zeros((1, 6, 4, 3), np.uint8)
    image[0, 5, 1, 2] = 200
    assert int(image_batch(image)[0, 2, 5, 1]) == 200


def test_one_observation_stands_for_a_batch(checkpoint):
    denoiser, critic, config = build_head(checkpoint.config), TwinQ(checkpoint.config), checkpoint.config
    observation, chunks = torch.randn(1, config.observation_dim), torch.randn(6, 8, 4)
    alone = denoiser(chunks, torch.tensor([3]), observation)
    torch.testing.assert_close(alone, denoiser(chunks, torch.full((6,), 3), observation.expand(6, -1)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(critic(observation, chunks), critic(observation.expand(6, -1), chunks), atol=1e-5, rtol=1e-4)


def test_the_two_q_functions_differ_and_judge_what_is_executed(checkpoint):
    critic, observation, chunks = TwinQ(checkpoint.config), torch.randn(6, checkpoint.config.observation_dim), torch.randn(6, 8, 4)
    first, second = critic(observation, chunks)
    assert not torch.allclose(first, second)
    later = chunks.clone()
    later[:, 4:] = 0.0
    assert torch.equal(critic(observation, later), critic(observation, chunks))


def test_a_frame_unlike_all_demonstrations_is_bounded(checkpoint):
    policy = Policy(checkpoint.config)
    policy.set_statistics(torch.randn(100, checkpoint.config.frame_dim))
    assert float(policy.observe(torch.full((1, 2, checkpoint.config.frame_dim), 1e6)).max()) == 5.0


def test_the_loss_of_a_sample_depends_on_that_sample_alone(checkpoint):
    policy = Policy(checkpoint.config)
    observation, actions = torch.randn(4, checkpoint.config.observation_dim), torch.rand(4, 8, 4)
    before = policy.loss(observation, actions, torch.Generator().manual_seed(0))
    actions[0] = 0.9
    after = policy.loss(observation, actions, torch.Generator().manual_seed(0))
    assert before[0] != after[0]
    torch.testing.assert_close(before[1:], after[1:])
