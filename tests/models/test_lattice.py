"""The lattice: where tiles lie, in whole pixels, whatever the phase."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from helpers.cards import generator_card
from hypothesis import given
from hypothesis import strategies as st

from xharmonize.errors import ModelError
from xharmonize.models import Input, Lattice, Output, Runtime

MGAN = Lattice(resolution=30.0, tile=128, buffer=32)


def test_cells_are_whole_pixels_of_every_input():
    assert MGAN.cells(10.0) == 3
    assert MGAN.cells(20.0) == Fraction(3, 2)
    assert MGAN.starts(10.0, (0.0, 0.0)) == (-96, -96)
    assert MGAN.starts(20.0, (0.0, 0.0)) == (-48, -48)
    with pytest.raises(ModelError, match="no whole number of pixels of 20 m"):
        Lattice(resolution=30.0, tile=129, buffer=32).cells(20.0)


def test_landsats_phase_starts_at_the_pixel_its_edge_lies_in():
    landsat = Lattice(resolution=30.0, tile=128, buffer=32, phase=(15.0, 15.0))
    # West of x = 15 m lies the pixel edge at 10 m; north of y = 15 m the one at 20 m.
    assert landsat.shift(10.0, (0.0, 0.0)) == (Fraction(-3, 2), Fraction(3, 2))
    assert landsat.starts(10.0, (0.0, 0.0)) == (-98, -95)
    assert landsat.starts(30.0, (15.0, 15.0)) == (-32, -32)


@given(
    tile=st.integers(1, 40),
    buffer=st.integers(0, 10),
    merge=st.sampled_from(["core", "blend"]),
    start=st.integers(-100, 100),
    size=st.integers(1, 60),
)
def test_tiles_are_those_whose_kept_pixels_meet_a_span(tile, buffer, merge, start, size):
    if 2 * buffer >= tile or (merge == "blend" and 4 * buffer > tile):
        with pytest.raises(ModelError):
            Lattice(resolution=30.0, tile=tile, buffer=buffer, merge=merge)
        return
    lattice = Lattice(resolution=30.0, tile=tile, buffer=buffer, merge=merge)
    reach = buffer if merge == "blend" else 0
    expected = [
        n
        for n in range(-200, 200)
        if n * lattice.stride - reach < start + size and (n + 1) * lattice.stride + reach > start
    ]
    assert list(lattice.tiles(start, start + size)) == expected


@given(
    left=st.integers(-5000, 5000),
    bottom=st.integers(-5000, 5000),
    width=st.integers(1, 9000),
    phase=st.sampled_from([(0.0, 0.0), (15.0, 15.0), (10.0, 20.0)]),
)
def test_what_lies_around_a_box_holds_every_tile_that_meets_it(left, bottom, width, phase):
    lattice = Lattice(resolution=30.0, tile=16, buffer=4, phase=phase)
    box = (float(left), float(bottom), float(left + width), float(bottom + 700))
    inputs = [(10.0, (0.0, 0.0)), (20.0, (0.0, 0.0))]
    west, south, east, north = lattice.around(box, inputs)
    assert west <= box[0]
    assert south <= box[1]
    assert east >= box[2]
    assert north >= box[3]
    assert (west % 10, south % 10, east % 10, north % 10) == (0, 0, 0, 0)
    core = lattice.stride * 30
    assert box[0] - west <= core + lattice.buffer * 30 + 20
    assert north - box[3] <= core + lattice.buffer * 30 + 20
    # Its corners are corners of windows of tiles, of the input whose pixels reach out farther.
    column = (west - 0.0) / 10
    starts = {lattice.starts(gsd, edge)[1] * gsd / 10 for gsd, edge in inputs}
    assert any((column - start) % (lattice.stride * 3) == 0 for start in starts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 0.0}, "resolution is 0.0; it should be greater"),
        ({"buffer": 64}, "no core"),
        ({"tile": 128.0}, "tile is 128.0; it should be a valid integer"),
        ({"phase": (0.0,)}, "phase"),
        ({"phase": (30.0 * 128, 0.0)}, "phase"),
        ({"merge": "mean"}, "merge is 'mean'; it should be 'core' or 'blend'"),
        ({"buffer": 33, "merge": "blend"}, "a quarter of the tile or less"),
    ],
)
def test_lattices_that_are_none(changes, message):
    with pytest.raises(ModelError, match=message):
        Lattice(**{"resolution": 30.0, "tile": 128, "buffer": 32, **changes})


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_batch_is_a_whole_number_of_tiles(size):
    with pytest.raises(ModelError, match="no number of tiles; give 1 or more"):
        Runtime(batch_size=size)


def test_parts_of_cards_that_are_none():
    with pytest.raises(ModelError, match="bands is 'red'; it should be a valid tuple"):
        Output(bands="red", mean=(0.0,) * 3, scale=(1.0,) * 3)
    one = Input(name="a", bands=("red",), gsd=10.0, mean=(0.0,), scale=(1.0,))
    card = generator_card(inputs=(one,))
    with pytest.raises(ModelError, match=r"inputs have the names \['a', 'a'\]"):
        replace(card, inputs=(one, replace(one, bands=("nir",))))
    with pytest.raises(ModelError, match="levels is 'L2A'; it should be a valid tuple"):
        replace(card, levels="L2A")


def test_the_phase_of_an_input_lies_within_a_pixel():
    with pytest.raises(ModelError, match="phase"):
        Input(name="10m", bands=("red",), gsd=10.0, mean=(0.0,), scale=(1.0,), phase=(15.0, 0.0))
