"""Fights: what is undone again and again is written again after pauses that grow, and nothing else waits."""

from __future__ import annotations

import pytest

from hosted_cp.kube.fights import FIRST_PAUSE, FREE, LONGEST_PAUSE, PEACE, Fights


class World:
    """One place that somebody always undoes, as fast as we write."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fights = Fights(clock=lambda: self.now)

    def write(self, mark: str = "ours", place: str = "here") -> float:
        """Seconds to wait; 0 if it was written."""
        held = self.fights.held(place, mark)
        if held is None:
            self.fights.wrote(place, mark)
            return 0.0
        return held.seconds

    def fight(self) -> list[float]:
        """Write until it has to wait, and wait; the pauses of an hour."""
        begun, pauses = self.now, []
        while self.now < begun + 3600:
            pause = self.write()
            pauses += [pause] if pause else []
            self.now += pause or 0.01
        return pauses


def test_a_fight_is_slowed_down_to_a_write_in_five_minutes() -> None:
    world = World()
    pauses = world.fight()
    assert pauses[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE], abs=0.1)
    assert max(pauses) <= LONGEST_PAUSE
    assert len(pauses) < 25, "and the writes in between are as many"


def test_a_few_drifts_are_repaired_at_once() -> None:
    world = World()
    world.write()
    for _ in range(FREE):
        assert world.write() == 0


def test_after_peace_it_begins_anew() -> None:
    world = World()
    world.fight()
    world.now += PEACE + LONGEST_PAUSE
    for _ in range(FREE):
        assert world.write() == 0


def test_what_is_wanted_anew_and_other_places_do_not_wait() -> None:
    world = World()
    world.fight()
    for _ in range(20):
        if world.write():
            break
    assert world.write() > 0
    assert world.write(place="there") == 0
    assert world.write(mark="another wish") == 0


def test_people_are_told_once() -> None:
    world = World()
    told = []
    for _ in range(40):
        held = world.fights.held("here", "ours")
        if held is None:
            world.fights.wrote("here", "ours")
        else:
            told.append(held.first)
            world.now += held.seconds / 3
    assert told[0]
    assert not any(told[1:])
