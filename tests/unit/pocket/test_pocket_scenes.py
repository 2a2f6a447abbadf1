import numpy as np
import pytest

from locheads.pocket.render import LINE_RGB, RGB, dark_part, pad_to_square, render, signed_distance
from locheads.pocket.scenes import CANVAS, DOTS, PATCH, TEXTURES, SceneObject, sample_scene


def test_a_seed_gives_the_same_scene_and_image_twice():
    assert sample_scene(5) == sample_scene(5)
    assert np.array_equal(render(sample_scene(5)), render(sample_scene(5)))
    assert sample_scene(5) != sample_scene(6)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_objects_lie_in_the_image_and_apart(count):
    for seed in range(12):
        scene = sample_scene(seed, (count,))
        assert len(scene.objects) == count and max(scene.width, scene.height) == CANVAS
        masks = [item.mask(scene.height, scene.width) for item in scene.objects]
        assert sum(masks).max() == 1
        for item, mask in zip(scene.objects, masks, strict=True):
            rows, columns = np.nonzero(mask)
            x, y, w, h = item.box
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.array(found) - (x, y, x + w, y + h)).max() <= 1


def test_no_two_objects_of_a_scene_look_alike():
    for seed in range(40):
        looks = [(o.shape, o.colour, o.texture) for o in sample_scene(seed).objects]
        assert len(set(looks)) == len(looks)


def test_some_images_are_not_square_and_padding_keeps_the_scale():
    scenes = [sample_scene(seed) for seed in range(40)]
    assert {(s.width, s.height) for s in scenes} == {(192, 192), (192, 160), (160, 192)}
    tall = next(s for s in scenes if s.width == 160)
    square = pad_to_square(render(tall))
    assert square.shape == (192, 192, 3)
    assert np.array_equal(square[:, 16:176], render(tall))
    assert (square[:, :16] == (122, 116, 104)).all()


def test_signed_distance_has_known_values():
    circle = signed_distance("circle", (0, 0, 10, 10), 10, 10)
    assert circle[5, 5] == pytest.approx(5 - np.hypot(0.5, 0.5))
    square = signed_distance("square", (2, 2, 4, 4), 8, 8)
    assert (square >= 0).sum() == 16 and square[0, 3] == -1.5
    triangle = signed_distance("triangle", (0, 0, 10, 10), 10, 10)
    assert triangle[9, 5] == pytest.approx(0.5) and triangle[0, 0] < 0


def test_every_patch_inside_an_object_shows_its_contour_lines():
    for seed in range(6):
        scene = sample_scene(seed)
        image = render(scene, majority=1.0).astype(int)
        for item in scene.objects:
            line = np.abs(image - LINE_RGB[item.shape]).max(axis=2) < 24
            deep = signed_distance(item.shape, item.box, scene.height, scene.width) >= PATCH
            corners = np.argwhere(deep[: -PATCH + 1, : -PATCH + 1] & deep[PATCH - 1 :, PATCH - 1 :])[::37]
            assert len(corners)
            for row, column in corners:
                # two patches wide: dots hide some lines
                assert line[max(row - 4, 0) : row + 12, max(column - 4, 0) : column + 12].any()


def test_textures_darken_half_of_the_fill_or_nothing():
    box = (8, 16, 56, 56)
    looks = {texture: SceneObject("square", "blue", "small", texture, "pink", box) for texture in TEXTURES}
    shares = {texture: dark_part(item).mean() for texture, item in looks.items()}
    assert shares == {"plain": 0, "striped": 0.5, "checked": 0.5}
    assert (dark_part(looks["striped"])[:, 0] == dark_part(looks["striped"])[:, 5]).all()
    assert not (dark_part(looks["checked"])[:, 0] == dark_part(looks["checked"])[:, 5]).any()


def test_the_dot_colour_is_the_most_frequent_one_drawn():
    for seed in range(8):
        scene = sample_scene(seed)
        image = render(scene).astype(int)
        for item in scene.objects:
            inside = image[signed_distance(item.shape, item.box, scene.height, scene.width) > 4.5]
            counts = {name: (np.abs(inside - RGB[name]).max(axis=1) < 24).sum() for name in DOTS}
            if item.colour not in ("red", "yellow"):  # too near to orange for this crude count
                assert max(counts, key=counts.get) == item.dots
