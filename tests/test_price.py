"""Price channels: changes and the standing to the own past, beside one loop a series; a price of nothing gets its sentence."""

import math

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import DataError, TaskError, from_array
from laws import refused


def prices(seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    found = np.exp(draw.normal(size=(3, 30)))
    found[0, :7], found[1, 10:13] = np.nan, np.nan
    return found


def test_both_are_their_twins() -> None:
    table = prices()
    panel = ft.price_channels(from_array(table[..., None], ("price",), step="D"), "price")
    assert panel.channels == ("price", "price_change", "price_relative")
    for s, line in enumerate(table):
        past: list[float] = []
        for t, value in enumerate(line):
            told = panel.values[s, t, 1:].tolist()
            if math.isnan(value):
                assert all(math.isnan(v) for v in told)
                continue
            log = math.log(value)
            assert told == pytest.approx([log - past[-1], log - sum(past) / len(past)] if past else [0, 0])
            past.append(log)


def test_nothing_later_is_read() -> None:
    table = prices(1)
    other = table.copy()
    other[:, 20:] = 1e6
    one, two = (ft.price_channels(from_array(t[..., None], ("price",), step="D"), "price").values[:, :20] for t in (table, other))
    assert torch.equal(one.nan_to_num(), two.nan_to_num())


def test_a_price_of_nothing_gets_its_sentence() -> None:
    table = prices()
    table[2, 4] = 0
    panel = from_array(table[..., None], ("price",), ("a", "b", "c"), step="D")
    with refused(DataError, '"price" of series "c" is 0 at 2000-01-05.*: a log needs prices above 0'):
        ft.price_channels(panel, "price")
    with refused(TaskError, 'no channel "prize": did you mean "price"'):
        ft.price_channels(panel, "prize")
