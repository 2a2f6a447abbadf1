"""A bar in the terminal must never be what a run waits for."""

import threading

from locheads.terminal import listening, track


def test_a_bar_has_no_thread_that_another_one_could_wait_for() -> None:
    before = threading.active_count()
    for _ in track(range(3), "attend", "images"):
        assert threading.active_count() == before


def test_listeners_hear_of_every_step_and_the_items_come_through() -> None:
    heard: list[tuple[object, ...]] = []
    with listening(lambda *step: heard.append(step)):
        assert list(track(iter("ab"), "ground", "images", 2)) == ["a", "b"]
        assert list(track(iter(""), "report", "pages")) == []
    of_ground = [("ground", "images", done, 2) for done in range(3)]
    assert heard == [*of_ground, ("report", "pages", 0, None)]
