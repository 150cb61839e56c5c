"""Same step: channels given as known ahead that are almost the target are named, with the figure; honest ones are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import foretell as ft
from foretell import Panel, Task, from_array
from foretell.reading.same_step import giveaways, told_by

DAYS = 140


def shop(seed: int = 0) -> Panel:
    """Two campaigns: conversions are clicks × rate, sales follow conversions; a discount moves sales a little; the week shows in all."""
    draw = np.random.default_rng(seed)
    week = 1 + 0.5 * np.sin(2 * np.pi * np.arange(DAYS) / 7)
    clicks = 1000 * week * np.exp(0.3 * draw.normal(size=(2, DAYS)))
    rate = 0.1 * np.exp(0.3 * draw.normal(size=(2, DAYS)))
    discount = draw.choice([0.0, 0.1, 0.2], size=(2, DAYS))
    conversions = clicks * rate * (1 + discount)
    sales = 50 * conversions * np.exp(0.05 * draw.normal(size=(2, DAYS)))
    season = np.broadcast_to(week, sales.shape)
    return from_array(
        np.stack([sales, conversions, clicks, rate, discount, season], -1), ("sales", "conversions", "clicks", "rate", "discount", "season"), step="D"
    )


def test_a_channel_that_is_the_target_in_other_words_is_named_with_the_figure() -> None:
    (said,) = giveaways(shop(), Task(target="sales", known=("conversions", "discount"), horizon=7))
    assert said.startswith('known channel "conversions" is almost a function of "sales" in the same step: 9')
    assert "of its change over 7 steps is told" in said and "only if it is planned" in said


def test_channels_that_only_together_are_the_target_are_named_together() -> None:
    panel = shop()
    assert max(told_by(panel, "sales", [c]) for c in ("clicks", "rate")) < 0.75
    (said,) = giveaways(panel, Task(target="sales", known=("clicks", "rate"), horizon=7))
    assert said.startswith('known channels "clicks", "rate" are together almost a function of "sales"')


@pytest.mark.parametrize("known", [(), ("discount",), ("season",), ("discount", "season")])
def test_what_is_honestly_known_is_not_named(known: tuple[str, ...]) -> None:
    """A seasonal index follows sales by its season alone; its changes over a season are none."""
    assert not giveaways(shop(), Task(target="sales", known=known, horizon=7))


def test_a_season_that_both_share_gives_nothing_away() -> None:
    """A planned index of the season tells nearly all of what sales are, and nothing of what they are beside it."""
    week = 10 * np.sin(2 * np.pi * np.arange(DAYS) / 7)
    sales = week + np.random.default_rng(0).normal(size=DAYS)
    index = week + 0.01 * np.random.default_rng(1).normal(size=DAYS)
    assert np.corrcoef(sales, index)[0, 1] ** 2 > 0.95
    assert told_by(from_array(np.stack([sales, index], -1)[None], ("sales", "index"), step="D"), "sales", ["index"]) < 0.1


def test_a_bent_function_is_seen_by_its_ranks() -> None:
    x = np.random.default_rng(0).normal(size=200)
    panel = from_array(np.stack([x**5, x], -1)[None], ("y", "x"), step="D")
    assert told_by(panel, "y", ["x"]) > 0.75


def test_gaps_short_data_and_constants_give_nothing_away() -> None:
    panel = shop()
    values = panel.values.clone()
    values[:, 10:14] = np.nan
    values[1, :, 1] = 3.0
    task = Task(target="sales", known="conversions", horizon=7)
    assert 0 < told_by(replace(panel, values=values), "sales", ["conversions"]) < 0.75
    assert not giveaways(replace(panel, values=panel.values[:, :9]), task)


def test_check_and_the_command_line_say_it(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretell.cli import main

    panel = shop().pick("s0")
    found = ft.check(panel, Task(target="sales", known="conversions", horizon=7))
    assert any('"conversions" is almost a function of "sales"' in note for note in found.notes)
    monkeypatch.chdir(tmp_path)
    panel.frame().write_csv("shop.csv")
    main(["check", "shop.csv", "--target", "sales", "--known", "conversions", "--horizon", "7"])
    assert '"conversions" is almost a function of "sales"' in capsys.readouterr().out


def test_real_advertising(data: Path) -> None:
    """91 days: conversions tell four fifths of what sales do on the same day; spend alone tells half."""
    panel = ft.read(data / "ads/online_advertising/daily_total.csv.gz")
    shares = {name: told_by(panel, "sales", [name]) for name in ("conversions", "clicks", "ad_spend")}
    assert shares["conversions"] > 0.75 > max(shares["clicks"], shares["ad_spend"])
    said = giveaways(panel, Task(target="sales", known=("conversions", "ad_spend"), horizon=7))
    assert len(said) == 1 and '"conversions"' in said[0]
    assert any("together" in one for one in giveaways(panel, Task(target="conversions", known=("clicks", "cvr"), horizon=7)))
