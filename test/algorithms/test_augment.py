"""Random views of images: bounded, and alike for both frames of an observation."""

import numpy as np
import pytest
import torch

from mechanic_rl_ros.algorithms.augment import coloured, shifted


def test_images_are_shifted_by_at_most_so_many_pixels_and_both_frames_alike():
    image = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    image[0, :, 20, 30] = 255
    views = shifted(image.repeat(40, 1, 1, 1), 2, torch.Generator().manual_seed(0))
    peaks = np.array([divmod(int(view[0].argmax()), 48) for view in views])
    assert np.abs(peaks - [20, 30]).max() == 2
    assert np.array_equal(peaks[:20], peaks[20:])


def test_colours_change_within_bounds_and_for_both_frames_alike():
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    views = coloured(image.repeat(40, 1, 1, 1), 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(views[:20], views[20:])
    assert float(views.min()) >= 0.0
    assert float(views.max()) <= 255.0
    brightness = views.mean(dim=(1, 2, 3)) / image.float().mean()
    assert float(brightness.max()) <= 1.3**2
    assert float(brightness.std()) > 0.05
    colours = views.mean(dim=(2, 3))
    assert float((colours[:, 0] / colours[:, 1]).std()) > 0.05


@pytest.mark.parametrize("change", [shifted, coloured])
def test_without_strength_images_stay_as_they_are(change):
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert change(images, 0, torch.Generator()) is images
