"""Detectors as a whole: planted faults, streams, files, what is frozen, and what a wrong input is told."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell as ft
from foretell import detect
from foretell.detect import (
    PCA,
    Alarms,
    Blend,
    Detector,
    EllipticEnvelope,
    IsolationForest,
    Linear,
    Preparation,
    Random,
    Scoring,
    Spread,
)
from foretell.errors import ForetellError
from foretell.nets import LSTMAutoencoder, TadGAN
from laws import refused, slow

NETS = {
    "spread": Spread(),
    "pca": PCA(),
    "t2": PCA(components=3, rows=4, statistic="t2"),
    "forecast": Linear(),
    "fill": Linear(back=2, ahead=2),
    "forest": IsolationForest(trees=8),
    "envelope": EllipticEnvelope(),
    "random": Random(),
    "gan": TadGAN(window=8, latent=3, generator=4, critic=(4, 4), encoder=4),
    "autoencoder": LSTMAutoencoder(window=6, hidden=4),
    "blend": Blend(nets=(Spread(), Linear(back=3), PCA(rows=2))),
}
CHANNELS = ("flow", "level", "heat", "valve", "power", "still")
HOUR = 3600


def machine(time: int, seed: int, series: int = 1) -> np.ndarray:
    """Five sensors of two slow states and noise, and one that never moves."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(series, time + 20, 2))
    state = np.stack([steps[:, 20 - k : time + 20 - k] * 0.8**k for k in range(20)]).sum(0)
    mix = np.array([[1, 0.5, -1, 0.2, 0.8], [0.3, -1, 0.6, 1, 0.1]])
    moving = 20 + state @ mix + 0.2 * random.normal(size=(series, time, 5))
    return np.concatenate([moving, np.full((series, time, 1), 7.0)], 2)


def panel(values: np.ndarray, **options: str) -> ft.Panel:
    return ft.from_array(torch.from_numpy(values), CHANNELS, step="1h", **options)


def faulty(seed: int = 9) -> np.ndarray:
    values = machine(400, seed)
    values[0, 250:280, 2] += 12.0
    return values


@cache
def guard(name: str, scoring: Scoring | None = None, preparation: Preparation | None = None) -> Detector:
    return detect.fit(panel(machine(500, 1, series=2)), NETS[name], ft.Training(epochs=1), preparation=preparation, scoring=scoring)


@pytest.mark.parametrize("name", ["pca", "forecast", "fill", slow("envelope")])
def test_a_planted_fault_ranks_on_top_and_names_its_channel(name: str) -> None:
    scores = guard(name).score(panel(faulty()))
    peak = int(torch.nan_to_num(scores.values[0]).argmax())
    assert 240 <= peak < 292
    if name != "pca":
        assert int(torch.nan_to_num(scores.channel[0, peak]).argmax()) == CHANNELS.index("heat")


def test_events_say_when_how_bad_and_which_sensor() -> None:
    found = guard("forecast").events(guard("forecast").score(panel(faulty())), Alarms(false_alarms="1/month"))
    worst = max(found.rows, key=lambda e: e.severity)
    assert 230 <= worst.start <= 252
    assert 277 <= worst.stop <= 305
    assert worst.culprits[0].channel == "heat"
    assert sum(c.share for c in worst.culprits) == pytest.approx(1.0)
    assert worst.severity > 0
    frame = found.frame()
    assert frame.columns == ["unique_id", "start", "stop", "peak", "score", "severity", "culprits"]
    assert frame["start"].to_list()[0].year == 2000


@pytest.mark.parametrize("name", [slow(name) if name == "envelope" else name for name in NETS])
def test_rows_as_they_arrive_get_the_scores_of_the_file(name: str) -> None:
    values = faulty()
    values[0, 100:103] = np.nan
    values[0, 150:180, 1] = np.nan
    one = guard(name)
    whole = one.score(panel(values))
    state, score, channel = one.start(), [], []
    for first, last in [(0, 1), (1, 2), (2, 90), (90, 91), *((k, k + 1) for k in range(91, 120)), (120, 300), (300, 400)]:
        state, fresh = one.step(state, values[0, first:last])
        score.append(fresh.score)
        channel.append(fresh.channel)
        assert sum(map(len, score)) == max(0, last - one.delay)
        assert len(state.rows) <= one.memory + one.delay + 1
    last_ones = one.finish(state)
    torch.testing.assert_close(torch.cat([*score, last_ones.score]), whole.values[0], rtol=1e-6, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(torch.cat([*channel, last_ones.channel]), whole.channel[0], rtol=1e-6, atol=1e-6, equal_nan=True)


PREPARED = {
    "differences": Preparation(lag=3, order=1, smooth=2),
    "lags": Preparation(lags=2, absolute=True, scale="minmax"),
    "intervals": Preparation(aggregate=4, statistics=("mean", "max"), scale="robust"),
    "components": Preparation(components=3),
    "skip": Preparation(gaps="skip", fill=0),
}
SCORED = {"causal": Scoring(look="causal"), "area": Scoring(error="area", span=6), "plain": Scoring(top=1, reach=1, smooth=1)}


@pytest.mark.parametrize("name", [*PREPARED, *SCORED])
def test_streams_agree_however_rows_are_prepared_and_scored(name: str) -> None:
    one = guard("fill", SCORED.get(name), PREPARED.get(name))
    values = faulty()[0, :203]
    values[60] = np.nan
    whole, state, score = one.score(panel(values[None])), one.start(), []
    for first in range(0, 203, 7):
        state, fresh = one.step(state, values[first : first + 7])
        score.append(fresh.score)
    score.append(one.finish(state).score)
    torch.testing.assert_close(torch.cat(score), whole.values[0], rtol=1e-9, atol=1e-9, equal_nan=True)


def test_causal_scores_come_at_once() -> None:
    assert detect.fit(panel(machine(300, 1)), Linear(), scoring=Scoring(look="causal")).delay == 0
    assert guard("forecast").delay == 11
    assert guard("fill").delay == 13


def test_nothing_is_fitted_on_what_is_scored() -> None:
    """Another file behind the run changes no score but those that look into it; nor does company in one panel."""
    one, values = guard("blend"), faulty()
    alone = one.score(panel(values)).values[0]
    longer = one.score(panel(np.concatenate([values, 50 + 9 * machine(300, 4)], 1))).values[0]
    torch.testing.assert_close(alone[: 400 - one.delay], longer[: 400 - one.delay], rtol=1e-9, atol=1e-9, equal_nan=True)
    company = one.score(panel(np.concatenate([machine(400, 8) * 3, values])))
    torch.testing.assert_close(company.values[1], alone, rtol=1e-12, atol=1e-12, equal_nan=True)
    late = one.score(panel(values[:, 200:])).values[0]
    torch.testing.assert_close(alone[200 + one.memory :], late[one.memory :], rtol=1e-9, atol=1e-9, equal_nan=True)


def test_order_and_names_of_runs_do_not_matter() -> None:
    values = machine(400, 3, series=3)
    forth, back = (detect.fit(panel(v), Linear(back=2)).score(panel(faulty())) for v in (values, values[::-1].copy()))
    torch.testing.assert_close(forth.values, back.values, rtol=1e-6, atol=1e-8, equal_nan=True)


def test_no_window_spans_two_runs() -> None:
    """A forecast fitted on two runs at different levels has seen no jump between them."""
    low, high = machine(300, 1), machine(300, 2) + 40
    one = detect.fit([panel(low), panel(high)], Linear(back=1, shrink=1e-3))
    both = detect.fit(panel(np.concatenate([low, high], 1)), Linear(back=1, shrink=1e-3))
    jump = both.score(panel(np.concatenate([low, high], 1))).values[0, 295:305]
    assert float(jump.nanmean()) > 2 * float(torch.cat(one.normal).nanmedian())


@pytest.mark.parametrize("name", [slow(name) if name == "envelope" else name for name in NETS])
def test_a_saved_detector_gives_the_same_bits(name: str, tmp_path: Path, digest: Callable[[object], str]) -> None:
    one = guard(name)
    ft.save(one, tmp_path / "guard.foretell")
    again = ft.load(tmp_path / "guard.foretell")
    assert isinstance(again, Detector)
    assert digest(one.score(panel(faulty()))) == digest(again.score(panel(faulty())))
    assert again.events(again.score(panel(faulty()))).rows == one.events(one.score(panel(faulty()))).rows


def test_a_stream_is_a_value_that_can_be_carried_on_elsewhere(tmp_path: Path) -> None:
    one, rows = guard("forecast"), faulty()[0]
    state, _ = one.step(one.start(), rows[:150])
    ft.save(state, tmp_path / "state.foretell")
    there, here = (one.step(s, rows[150:300])[1] for s in (ft.load(tmp_path / "state.foretell"), state))
    torch.testing.assert_close(there.score, here.score, rtol=0, atol=0, equal_nan=True)


def test_the_same_seed_gives_the_same_detector_and_inputs_stay_as_they_were(digest: Callable[[object], str]) -> None:
    normal, test = panel(machine(300, 1)), panel(faulty())
    before = digest((normal, test))
    one, two = (detect.fit(normal, IsolationForest(trees=5), ft.Training(seed=3)) for _ in range(2))
    assert digest(one) == digest(two)
    assert digest(one.score(test)) == digest(two.score(test))
    assert digest((normal, test)) == before


def test_scikit_learns_forest_and_ours_agree() -> None:
    from sklearn.ensemble import IsolationForest as Forest

    from foretell.detect.trees import fit_forest

    x = torch.randn(400, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float().double()
    theirs = -Forest(n_estimators=30, max_samples=256, random_state=5).fit(x.numpy()).score_samples(x.numpy())
    whole = fit_forest(IsolationForest(trees=30), [x], 5).say(x).whole
    assert whole is not None
    np.testing.assert_allclose(whole.numpy(), theirs, atol=1e-12)


def test_groups_are_found_where_sensors_are_numbered_as_an_array() -> None:
    random = np.random.default_rng(0)
    common = 3.7 + 0.2 * np.sin(np.arange(300) / 20)
    cells = common[:, None] + 0.005 * random.normal(size=(300, 6))
    values = np.concatenate([cells, 50 + random.normal(size=(300, 6)).cumsum(0)], 1)
    names = [f"M01CV{k:02}" for k in range(6)] + [f"metric{k}" for k in range(6)]
    runs = ft.from_array(torch.from_numpy(values[None]), names, step="s")
    found = detect.fit(runs, Spread())
    assert [(g.pattern, g.members) for g in found.prepared.groups] == [("M??CV??", (0, 1, 2, 3, 4, 5))]
    values[150:200, 4] += 0.1  # within the range of every cell, but not with the others
    events = found.events(found.score(ft.from_array(torch.from_numpy(values[None]), names, step="s")))
    assert events.rows[0].culprits[0].channel == "M01CV04"


def test_other_units_are_noticed() -> None:
    values = faulty()
    values[0, :, 0] *= 1000
    notes = guard("pca").score(panel(values)).notes
    assert notes[0].startswith('channel "flow" is about 2')
    assert notes[0].endswith("out of range, other units by a factor of 1,000?")


def test_a_sensor_that_is_silent_is_named_and_the_others_are_judged() -> None:
    values = faulty()
    values[0, :, 1] = np.nan
    scores = guard("blend").score(panel(values))
    assert "nothing observed of: level" in scores.notes
    assert 240 <= int(torch.nan_to_num(scores.values[0]).argmax()) < 292
    assert scores.channel[0, :, 1].isnan().all()


def test_rows_that_were_not_observed_have_no_score() -> None:
    values = faulty()
    values[0, 100:130] = np.nan
    scores = guard("blend").score(panel(values))
    assert scores.values[0, 100:130].isnan().all()
    assert scores.values[0, 150:].isfinite().all()


def wrong(width: int = 6, time: int = 400, step: str = "1h", channels: tuple[str, ...] = CHANNELS) -> ft.Panel:
    return ft.from_array(torch.from_numpy(machine(time, 2)[..., :width]), channels[:width], step=step)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: guard("pca").score(wrong(5)), 'the data lack the channel "still", which the detector was trained on'),
        (lambda: guard("pca").score(wrong(step="30min")), "the detector's rows are h apart, these 30min: read them with resample='h'"),
        (lambda: guard("forecast").score(wrong(time=4)), 'the run "s0" has 4 rows; 11 on end without a gap are needed to judge one'),
        (lambda: guard("pca").score(np.zeros((3, 6))), "a detector scores a Panel, got ndarray"),
        (lambda: guard("pca").step(guard("pca").start(), [[1.0, 2.0]]), "rows to score have 6 channels, in the order of guard.inputs; got an array [1, 2]"),
        (lambda: guard("pca").step(guard("pca").start(), "1,2"), "rows to score are numbers [time, channel]; got str"),
        (lambda: detect.fit([], PCA()), "no normal run was given"),
        (lambda: detect.fit([np.zeros(3)], PCA()), "normal runs are Panels, one or several; got ndarray"),
        (lambda: detect.fit([wrong(), wrong(5)], PCA()), 'the normal run "s0" lacks "still"'),
        (lambda: detect.fit([wrong(5), wrong()], PCA()), 'the normal run "s0" has "still" too'),
        (lambda: detect.fit([wrong(), wrong(step="30min")], PCA()), "the detector's rows are h apart, these 30min"),
        (lambda: detect.fit(wrong(time=30), PCA()), "the normal runs hold 30 rows; 80 or more are needed"),
        (lambda: detect.fit(wrong(), ft.nets.Ridge()), 'net must be "auto" or one of'),
        (lambda: detect.fit(wrong(), PCA(components=9)), "PCA: components=9 of 5 inputs: there cannot be more"),
        (lambda: detect.fit(wrong(), Linear(back=0)), "Linear: back=0 and ahead=0 leave no row to look at"),
        (lambda: detect.fit(wrong(), PCA(), preparation=Preparation(components=7)), "components=7 of 5 features"),
        (lambda: detect.fit(wrong(), PCA(), preparation=Preparation(groups=("M??CV??",))), 'the group "M??CV??" matches 0 of the channels'),
        (lambda: detect.fit(panel(np.ones((1, 100, 6))), PCA()), "every channel is constant in the normal runs"),
        (lambda: detect.fit(wrong(), IsolationForest(), scoring=Scoring(error="area")), 'error="area" compares with an expected course'),
    ],
)
def test_wrong_inputs_get_their_sentence(act: Callable[[], object], sentence: str) -> None:
    with refused(ForetellError, re.escape(sentence)):
        act()


def test_thresholds_come_from_normal_scores_alone() -> None:
    one = guard("blend")
    scores = one.score(panel(faulty()))
    limits = {kind: one.limit(Alarms(threshold=kind)) for kind in ("calibrated", "sigma", "robust", "spot")}
    for kind, limit in limits.items():
        events = one.events(scores, Alarms(threshold=kind))
        assert events.limit == limit
        assert any(e.start <= 265 <= e.stop for e in events.rows), kind
    assert one.limit(Alarms(false_alarms="2/day")).value <= one.limit(Alarms(false_alarms="1/week")).value
    assert one.events(scores, Alarms(threshold="dynamic")).rows
    rare = one.events(scores, Alarms(false_alarms="1/year"))
    assert "extrapolated: the normal runs hold 1e+03 hours" in rare.notes[-1]


def test_auto_prefers_what_finds_planted_faults_and_says_how_well_each_did() -> None:
    one = detect.fit(panel(machine(400, 1)))
    assert isinstance(one.net, Blend)
    found = [value for name, value in one.facts.items() if name.startswith("planted faults")]
    assert len(found) == 7  # every combination of three: there is no group whose spread could be watched
    assert found == sorted(found, reverse=True)
    assert found[0] > 3 * 0.08  # the share of rows at fault, which chance would reach
    assert one.events(one.score(panel(faulty())), Alarms(false_alarms="1/month")).rows[0].culprits[0].channel == "heat"


@pytest.mark.parametrize("combine", ["mult", "sum", "rec", "critic"])
def test_a_critic_joins_by_frozen_constants(combine: str) -> None:
    scoring = Scoring(combine=combine, unroll="mean")
    one = guard("gan", scoring)
    scores = one.score(panel(faulty()))
    assert torch.isfinite(scores.values[0, 60:340]).all()
    half = one.score(panel(faulty()[:, :200]))
    torch.testing.assert_close(half.values[0, : 200 - one.delay], scores.values[0, : 200 - one.delay], rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", ["gan", "autoencoder"])
def test_a_training_that_was_killed_goes_on_to_the_same_detector(name: str, tmp_path: Path, digest: Callable[[object], str]) -> None:
    normal, training = panel(machine(200, 1)), ft.Training(epochs=2, optimizer={"clip": None})
    whole = detect.fit(normal, NETS[name], training)
    detect.fit(normal, NETS[name], training.model_copy(update={"epochs": 1}), checkpoint=tmp_path / "other")  # another question
    detect.fit(normal, NETS[name], training, checkpoint=tmp_path / "state")
    again = detect.fit(normal, NETS[name], training, checkpoint=tmp_path / "state")
    assert digest(again.score(panel(faulty()))) == digest(whole.score(panel(faulty())))
    assert again.curves is not None and again.curves.seconds[0] == detect.fit(normal, NETS[name], training, checkpoint=tmp_path / "state").curves.seconds[0]  # type: ignore[union-attr]


def test_a_causal_gan_looks_behind_only() -> None:
    assert detect.fit(panel(machine(300, 1)), NETS["gan"], ft.Training(epochs=1), scoring=Scoring(look="causal")).delay == 0


def test_dtw_errors_forgive_what_comes_a_little_late() -> None:
    late, wrong = faulty() * 0 + machine(400, 9), machine(400, 9)
    late[0, 200:260, 2] = late[0, 199:259, 2]
    wrong[0, 200:260, 2] += 12
    one = guard("fill", Scoring(error="dtw", span=5))
    peaks = [float(torch.nan_to_num(one.score(panel(v)).values[0, 190:270]).max()) for v in (late, wrong)]
    assert peaks[1] > 2 * peaks[0]
