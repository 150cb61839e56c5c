"""A trend taken off each window and added back: LOESS of the window alone, continued and damped."""

import numpy as np
import pytest
import torch
from statsmodels.nonparametric.smoothers_lowess import lowess
from torch import Generator

import foretell as ft
from foretell import Task, TaskError, forecast
from foretell.nets import PeriodKernel, SeasonalRidge, Shape
from foretell.smooth import DAMPED
from laws import TRAINING, refused

NET = PeriodKernel(kernels=2, filters=2, heads=1, size=2, dense=4, ahead=0, trend=9, ridge=None)


def test_the_trend_is_that_of_the_window() -> None:
    """What the net reads is the window less statsmodels' line, what is added is the line's end, continued step by step."""
    shape = Shape(2, 20, 3, 4, 0, 1, 1, 0)
    drawn = [Generator().manual_seed(n) for n in (1, 2)]
    net = NET.build(shape, drawn).double()
    plain = NET.model_copy(update={"trend": 0}).build(shape, drawn).double()
    plain.load_state_dict(net.state_dict())
    past = torch.randn(2, 3, 20, 3, generator=Generator().manual_seed(0), dtype=torch.float64).cumsum(2)
    seen, none = torch.ones_like(past, dtype=torch.bool), past.new_zeros(2, 3, 4, 0)
    left, ahead = past.clone(), torch.zeros(2, 3, 4, dtype=torch.float64)
    for m in range(2):
        for e in range(3):
            line = lowess(past[m, e, :, 0].numpy(), np.arange(20), frac=9 / 20, it=0, delta=0, return_sorted=False)
            left[m, e, :, 0] -= torch.from_numpy(line)
            level, slope = line[-1], line[-1] - _line_before(past[m, e, -9:, 0].numpy())
            for step in range(4):
                slope *= DAMPED
                level += slope
                ahead[m, e, step] = level
    want = plain(left, seen, none, none[..., 0, :]) + ahead[..., None, None]
    torch.testing.assert_close(net(past, seen, none, none[..., 0, :]), want)


def _line_before(near: np.ndarray) -> float:
    """The last step's line, one step before its end: a weighted straight line over these steps."""
    away = np.arange(1 - len(near), 1)
    weight = (1 - (np.abs(away) / (len(near) - 1)) ** 3) ** 3
    slope, level = np.polyfit(away, near, 1, w=np.sqrt(weight))
    return float(level - slope)


def test_a_rise_beyond_all_that_was_learned_from_is_followed() -> None:
    days, draw = torch.arange(300), Generator().manual_seed(0)
    rising = 10 + 0.2 * days + 3 * torch.sin(2 * torch.pi * days / 7) + 0.2 * torch.randn(300, generator=draw)
    panel = ft.from_array(rising[None], ("y",), ("a",), step="D")
    task, training = Task(target="y", context=28, horizon=7, levels=()), TRAINING.model_copy(update={"epochs": 4, "loss": "mse"})
    errors = {}
    for name, trend in (("with", 14), ("without", 0)):
        model = forecast.fit(panel.until(260), task, NET.model_copy(update={"trend": trend}), training)
        told = model.predict(panel, origin=292).values[0, :, 0]
        errors[name] = float((told - rising[293:300]).abs().mean())
    assert errors["with"] < 0.5 * errors["without"], errors


@pytest.mark.parametrize(
    ("options", "sentence"), [({"trend": 9, "ridge": SeasonalRidge()}, "trend=9 takes off the level"), ({"trend": 1, "ridge": None}, "trend=1 is no trend")]
)
def test_what_cannot_be_gets_its_sentence(options: dict[str, object], sentence: str) -> None:
    with refused(TaskError, sentence):
        PeriodKernel.model_validate(options)
