import numpy as np

from spkd.evidence import simulated


def test_a_picture_of_simulated_data_says_so_below_it_and_others_stay_as_they_are() -> None:
    picture = np.full((20, 256, 3), 7, np.uint8)
    marked = simulated.marked(picture, "simulated")
    assert (marked[:20] == picture).all() and marked.shape == (20 + simulated.STRIP_PX, 256, 3)
    assert marked.dtype == np.uint8 and len(np.unique(marked[20:])) > 5  # letters
    assert simulated.marked(picture, "UCI 231") is picture
