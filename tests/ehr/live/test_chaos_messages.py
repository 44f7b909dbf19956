"""Mutated messages, charsets, long histories and slow neighbours at the real listener, at a small size of `make chaos`."""

import random

import pytest

from bench.chaos import charsets, mutated_messages, persons, slow_neighbours
from bench.chaos.mutations import CONTENT, FRAME, mutated_frame
from bench.feed import frame, sound_messages, with_control_id
from ehr.live.mllp import FrameDecoder

SCENARIOS = [charsets, mutated_messages, persons, slow_neighbours]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.__name__.rpartition(".")[2] for each in SCENARIOS])
def test_small_size(scenario):
    for figure in scenario.run("small"):
        assert figure.is_met, figure


def test_mutations_are_the_same_for_the_same_seed_and_number():
    messages = sound_messages(40)
    one = [mutated_frame(messages, number, 3) for number in range(300)]
    assert one == [mutated_frame(messages, number, 3) for number in range(300)]
    assert one != [mutated_frame(messages, number, 4) for number in range(300)]
    sound = {frame(with_control_id(message, number)) for message in messages for number in range(300)}
    assert sum(each not in sound for each in one) > 200


def test_every_mutator_takes_any_bytes_and_changes_some():
    chance = random.Random(1)
    for mutate in (*CONTENT, *FRAME):
        changed = 0
        for content in (b"", b"\r", b"MSH", *sound_messages(20)):
            given = frame(content) if mutate in FRAME else content
            changed += mutate(chance, given) != given
        assert changed or mutate.__name__ == "_leave_as_it_is", mutate


def test_the_oracle_of_frames_agrees_with_the_decoder():
    messages = sound_messages(40)
    for start in range(0, 2000, 50):
        stream = b"".join(mutated_frame(messages, number, 5) for number in range(start, start + 50))
        decoder = FrameDecoder(16 << 20)
        events = [*decoder.feed(stream), *filter(None, [decoder.end()])]
        cut = mutated_messages.pieces(stream)
        assert [each.content for each in events if each.kind == "frame"] == cut.frames
        assert [b"\x0b" + each.content for each in events if each.kind == "cut"] == cut.cut
        assert [each.content for each in events if each.kind == "outside"] == cut.strays


def test_the_oracle_of_charsets_knows_right_from_wrong():
    sent = charsets.messages(200, seed=1)
    assert sent == charsets.messages(200, seed=1)
    readable = [each for each in sent if each.name is not None]
    assert 40 < len(readable) < 160
    assert not any(charsets.REPLACEMENT in each.name for each in readable)
    assert any(not each.name.isascii() for each in readable)
