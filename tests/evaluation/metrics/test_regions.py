import numpy as np

from evaluation.metrics.regions import cut_out


def landmarks(mouth_xy: tuple[float, float], eye_distance: float) -> np.ndarray:
    landmarks_KC = np.zeros((68, 2))
    landmarks_KC[48:68] = mouth_xy
    landmarks_KC[45] = landmarks_KC[36] + (eye_distance, 0)
    return landmarks_KC


def numbered(side: int = 40) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.stack([y, x, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_pixels_are_those_about_the_part_untouched():
    mouth = cut_out(numbered(), landmarks((19.5, 24.5), 10), "mouth")
    assert mouth.shape == (8, 16, 3)
    np.testing.assert_array_equal(mouth[:, 0, 0], np.arange(21, 29))
    np.testing.assert_array_equal(mouth[0, :, 1], np.arange(12, 28))


def test_beyond_the_picture_its_border_is_repeated():
    mouth = cut_out(numbered(), landmarks((1.5, 39.5), 10), "mouth")
    assert mouth.shape == (8, 16, 3)
    assert mouth[-1, 0].tolist() == [39, 0, 0] and mouth[0, -1].tolist() == [36, 9, 0]


def test_parts_are_never_too_small_to_look_at_nor_larger_than_the_picture_allows():
    assert cut_out(numbered(), landmarks((20, 20), 1), "mouth").shape == (8, 8, 3)
    assert cut_out(numbered(), landmarks((20, 20), 4000), "mouth").shape == (32, 64, 3)
