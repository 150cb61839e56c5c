"""Boosting: LightGBM or XGBoost on lags, through mlforecast: one model of all series, continued step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Generator, Tensor, nn

from ..errors import DataError, TaskError
from ..nets.layers import Shape
from ..spec import Spec
from ..task import Source, Split, Windows, filled, windows
from .extras import needed

Library = Literal["lightgbm", "xgboost"]
Objective = Literal["mae", "mse", "tweedie", "poisson"]
UNSEEN, TRAIN, STOP = 0, 1, 2  # what a row of the long frame is for
OBJECTIVES: Mapping[Library, Mapping[Objective, str]] = {
    "lightgbm": {"mae": "regression_l1", "mse": "regression", "tweedie": "tweedie", "poisson": "poisson"},
    "xgboost": {"mae": "reg:absoluteerror", "mse": "reg:squarederror", "tweedie": "reg:tweedie", "poisson": "count:poisson"},
}
NOTHING = np.zeros(0)
JUDGED = 1000  # windows of the stop part, at most, that decide on differencing
FEW = 20  # and at least: the luck of fewer would decide


class Boosting(Spec):
    """Trees on lags, rolling means, the known channels now and a season ago; past-only channels are read a horizon late, labels as
    categories (LightGBM; XGBoost as numbers).

    `lags` in steps; None takes the near past and whole seasons. `means` are the widths of rolling means; None takes one season and
    four. `history` are the steps that lags and means may reach back where that is more than the context. `difference` forecasts the
    change over so many steps, 0 the value itself; None lets the stop part choose between 0 and a season, and takes the season where that
    part is short. `objective` None follows the training's loss; tweedie and poisson are for counts and sales with many zeros, and read
    the values unscaled, or scaled by "mean". At most `rounds` trees; with
    a stop part their number is that which was best there, with `patience` rounds of grace, and all is then learned again on both.
    """

    kind: Library = "lightgbm"
    objective: Objective | None = None
    rounds: int = Field(default=600, ge=1)
    patience: int = Field(default=50, ge=1)
    rate: float = Field(default=0.05, gt=0, le=1)
    leaves: int = Field(default=31, ge=2)
    least: int = Field(default=20, ge=1)
    share: float = Field(default=0.8, gt=0, le=1)
    tweedie_power: float = Field(default=1.1, gt=1, lt=2)
    lags: tuple[int, ...] | None = None
    means: tuple[int, ...] | None = None
    history: int = Field(default=0, ge=0)
    difference: int | None = Field(default=None, ge=0)
    season: int | None = Field(default=None, ge=1)

    @property
    def counts(self) -> bool:
        """Whether the objective is one of values that are never below zero."""
        return self.objective in ("tweedie", "poisson")

    def build(self, shape: Shape, streams: Sequence[Generator]) -> nn.Module:
        """A net whose weights are the trees' own text, as bytes."""
        return BoostingNet(self, shape)

    def reach(self, context: int, change: int) -> tuple[int, ...]:
        """The lags that a context can hold, beside a difference over so many steps."""
        season, context = self.season or 1, max(context, self.history)
        usual = {*range(1, min(season, 12) + 1), *(k * season + d for k in (1, 2, 3, 7) for d in (-1, 0, 1))}
        every = sorted(self.lags or (usual if season > 1 else range(1, 13)))
        most = context - 1 - change
        kept = tuple(lag for lag in every if 1 <= lag <= most)
        if not kept:
            least = min(every) + 1 + change
            raise TaskError(
                f"Boosting reads at least {min(every)} steps back and a difference over {change}: context {context} is too short, use {least} or more"
            )
        return kept


class Table(NamedTuple):
    """What mlforecast reads: one row a series and step, ascending. `kinds` are the columns beside the target that are categories."""

    unit: np.ndarray
    step: np.ndarray
    target: np.ndarray
    beside: np.ndarray
    use: np.ndarray
    kinds: tuple[int, ...] = ()


class BoostingNet(nn.Module):
    """Every window is a short series of its own: mlforecast computes its lags, and the forecast of one step is the next one's past."""

    difference: Tensor

    def __init__(self, spec: Boosting, shape: Shape) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        for at in range(shape.targets):
            self.register_buffer(f"trees_{at}", torch.zeros(1, 0, dtype=torch.uint8))
        self.register_buffer("difference", torch.zeros(1, shape.targets, dtype=torch.long))

    def forward(
        self,
        past: Float[Tensor, "member example context feature"],
        observed: Bool[Tensor, "member example context feature"],
        future: Float[Tensor, "member example horizon known"],
        static: Float[Tensor, "member example label"],
        noise: None = None,
    ) -> Float[Tensor, "member example horizon target slot"]:
        """[1, example, horizon, target, 1 + level]; every level repeats the point. TaskError if a gradient is asked for."""
        if past.requires_grad or future.requires_grad:
            raise TaskError("boosted trees have no gradients: explain them by a perturbation method")
        named, window = dict(self.named_buffers()), (past[0].numpy(), future[0].numpy(), static[0].numpy())
        points = [self._continued(*window, at, text(named[f"trees_{at}"])) for at in range(self.shape.targets)]
        point = torch.from_numpy(np.stack(points, -1)).to(past.dtype)[None]
        return point[..., None].expand(*point.shape, self.shape.slots)

    def _continued(self, past: np.ndarray, future: np.ndarray, static: np.ndarray, target: int, trees: str) -> np.ndarray:
        count, context, horizon = len(past), past.shape[1], self.shape.horizon
        whole = beside(past, future, static, self.shape, self.spec.season or 1)
        unit, step = np.divmod(np.arange(count * context), context)
        table = Table(unit, step, past[..., target].reshape(-1), whole[:, :context].reshape(count * context, -1), NOTHING)
        frame = pipeline(self.spec, context, int(self.difference[0, target]))
        frame.preprocess(long_frame(table), static_features=[], dropna=False, return_X_y=True, as_numpy=True)
        frame.models_ = {"point": loaded(self.spec.kind, trees)}
        ahead_unit, ahead_step = np.divmod(np.arange(count * horizon), horizon)
        ahead = Table(ahead_unit, ahead_step + context, NOTHING, whole[:, context:].reshape(count * horizon, -1), NOTHING)
        told = frame.predict(horizon, X_df=long_frame(ahead) if ahead.beside.shape[1] else None)
        found: np.ndarray = told["point"].to_numpy().reshape(count, horizon)
        return found


def beside(past: np.ndarray, future: np.ndarray, static: np.ndarray, shape: Shape, season: int) -> np.ndarray:
    """What stands beside the target at every step of window and horizon: known channels as they are, those that the clock does
    not decide also as they were a season before, past-only ones as they were a horizon before, labels. [example, context + horizon, column]"""
    known, horizon, late = shape.known, shape.horizon, past.shape[2] - shape.known
    now = np.concatenate([past[..., late:], future], 1) if known else np.zeros((len(past), past.shape[1] + horizon, 0), past.dtype)
    seen = past[..., shape.targets : late]
    before = np.full((len(past), horizon, seen.shape[2]), np.nan, past.dtype)
    facts = np.broadcast_to(static[:, None], (len(past), past.shape[1] + horizon, static.shape[1]))
    return np.concatenate([now, shifted(now[..., : known - shape.clocked], season), np.concatenate([before, seen], 1), facts], 2)


def shifted(columns: np.ndarray, steps: int) -> np.ndarray:
    """[example, time, column] as it was so many steps before; NaN where nothing was."""
    found = np.full_like(columns, np.nan)
    found[:, steps:] = columns[:, : max(0, columns.shape[1] - steps)]
    return found


def long_frame(table: Table) -> Any:
    """The long frame of mlforecast; `use` says what a row is for."""
    import polars as pl

    columns: dict[str, np.ndarray] = {"unique_id": table.unit, "ds": table.step}
    if len(table.target):
        columns["y"] = table.target.astype(np.float32)
    if len(table.use):
        columns["use"] = table.use.astype(np.float32)
    return pl.DataFrame({**columns, **{f"x{i}": table.beside[:, i].astype(np.float32) for i in range(table.beside.shape[1])}})


def pipeline(spec: Boosting, context: int, difference: int) -> Any:
    """mlforecast with lags and rolling means, for steps that are counted."""
    mlforecast = needed("mlforecast", "Boosting")
    means = needed("mlforecast.lag_transforms", "Boosting").RollingMean
    changes = needed("mlforecast.target_transforms", "Boosting").Differences
    context = max(context, spec.history)
    lags, season = spec.reach(context, difference), spec.season or 1
    widths = sorted({w for w in spec.means or (season, 4 * season) if 1 < w <= context - 1 - difference})
    rolling = {1: [means(window_size=w, min_samples=1) for w in widths]} if widths else {}
    return mlforecast.MLForecast({}, freq=1, lags=list(lags), lag_transforms=rolling, target_transforms=[changes([difference])] if difference else None)


class Grown(NamedTuple):
    """The trees as text by target, those grown before the stop part was learned from too, and what was chosen."""

    weights: dict[str, Tensor]
    judged: dict[str, Tensor]
    facts: dict[str, str | float]


def grow(spec: Boosting, shape: Shape, source: Source, parts: Split, *, loss: str, seed: int, retrain: bool) -> Grown:
    """Trees for every target from all series of a source: as many as the stop part likes best, then again with it."""
    objective: Objective = spec.objective or ("mse" if loss == "mse" else "mae")
    told = spec.model_copy(update={"objective": objective})
    weights, judged, trees, changes = {}, {}, [], []
    for target in range(shape.targets):
        table = rows_of(spec, shape, source, parts, target)
        if spec.counts and float(table.target.min()) < 0:
            raise DataError(
                f"{objective} is for values of at least 0, and {source.roles.target[target]} goes down to {table.target.min():g}: use objective='mse'"
            )
        first, best, change = _chosen(told, shape, source, parts, table, target, seed)
        judged[f"trees_{target}"] = weights[f"trees_{target}"] = as_bytes(first)
        if retrain and bool((table.use == STOP).any()):
            whole = table._replace(use=np.minimum(table.use, TRAIN))
            weights[f"trees_{target}"] = as_bytes(_boosted(told.model_copy(update={"rounds": best}), shape.context, change, whole, seed)[0])
        trees.append(best)
        changes.append(change)
    chosen = {"difference": torch.tensor([changes])}
    facts: dict[str, str | float] = {"trees": ", ".join(map(str, trees)), "difference": ", ".join(map(str, changes))}
    return Grown(weights | chosen, judged | chosen, facts)


def _chosen(spec: Boosting, shape: Shape, source: Source, parts: Split, table: Table, target: int, seed: int) -> tuple[str, int, int]:
    """Trees, their number and the difference: the one given, or the better one of the stop part's whole horizons; a season if they are few."""
    season, stop = spec.season or 1, windows(source, parts.stop)
    if spec.difference is not None or spec.counts:
        options = [spec.difference or 0]
    else:
        options = [0, season] if len(stop) >= FEW else [season]
        options = options if season < shape.context - 1 else [0]  # a context too short for a season cannot be asked
    found = [(*_boosted(spec, shape.context, change, table, seed), change) for change in options]
    if len(found) == 1:
        return found[0]
    errors = [_error(spec, shape, source, stop, target, trees, change) for trees, _, change in found]
    return found[int(np.nanargmin(errors))] if np.isfinite(errors).any() else found[0]


def _error(spec: Boosting, shape: Shape, source: Source, stop: Windows, target: int, trees: str, change: int) -> float:
    """Mean absolute error of whole horizons in the stop part, in model space."""
    source = replace(source, context=max(source.context, spec.history))
    series, origin = stop.at(torch.arange(0, len(stop), max(1, -(-len(stop) // JUDGED))))
    batch = source.batch(series, origin)
    net = BoostingNet(spec, shape)
    net.difference = torch.full_like(net.difference, change)
    guess = net._continued(batch.past.numpy(), batch.future.numpy(), batch.static.numpy(), target, trees)
    gap = np.abs(guess - batch.goal[..., target].numpy())
    return float(gap[batch.seen[..., target].numpy()].mean())


def rows_of(spec: Boosting, shape: Shape, source: Source, parts: Split, target: int) -> Table:
    """All series of a source as one table, each from its first observed step to the end of the stop part."""
    last = torch.maximum(parts.train.last, parts.stop.last)
    width = int(last.max()) + 1
    every, row = torch.arange(len(last)), torch.arange(width).expand(len(last), -1)
    read = source.read(source.roles.features, every, row)
    seen, late = read[..., target].isfinite(), len(source.roles.target + source.roles.past)
    full = filled(read, read.isfinite()).numpy()
    before = shifted(full[..., len(source.roles.target) : late], source.horizon)
    ago = shifted(full[..., late : full.shape[2] - shape.clocked], spec.season or 1)
    facts = source.static[:, None].expand(-1, width, -1).numpy()
    columns = np.concatenate([full[..., late:], ago, before, facts], 2)
    begin = torch.where(seen.any(1), seen.int().argmax(1), width)
    use = torch.where(row <= parts.train.last[:, None], TRAIN, STOP).masked_fill(~seen, UNSEEN)
    keep = ((row >= begin[:, None]) & (row <= last[:, None])).numpy()
    unit = every[:, None].expand(-1, width).numpy()
    before_labels = columns.shape[2] - shape.static
    kinds = tuple(before_labels + at for at, kind in enumerate(shape.kinds) if kind)
    return Table(unit[keep], row.numpy()[keep], full[..., target][keep], columns[keep], use.numpy()[keep], kinds)


def _boosted(spec: Boosting, context: int, change: int, table: Table, seed: int) -> tuple[str, int]:
    """The trees as text, and how many of them are used."""
    frame = pipeline(spec, context, change)
    # Lags that reach far back are left empty where there is nothing yet, or a year's lag would cost a year of every series.
    told = {"static_features": [], "dropna": not spec.history, "return_X_y": True, "as_numpy": True, "weight_col": "use"}
    features, goal = frame.preprocess(long_frame(table), **told)
    features, goal = features[np.isfinite(goal)], goal[np.isfinite(goal)]
    kinds = [frame.ts.features_order_.index(f"x{column}") for column in table.kinds]
    use, features = features[:, 0], features[:, 1:]
    train, stop = (features[use == part] for part in (TRAIN, STOP))
    if not len(train):
        raise TaskError(f"no row to learn from: every series is shorter than the longest lag of {max(spec.reach(context, change))} steps")
    rows = (train, goal[use == TRAIN]), (stop, goal[use == STOP])
    return _lightgbm(spec, *rows, seed, kinds) if spec.kind == "lightgbm" else _xgboost(spec, *rows, seed)


Rows = tuple[np.ndarray, np.ndarray]


def _lightgbm(spec: Boosting, train: Rows, stop: Rows, seed: int, kinds: list[int]) -> tuple[str, int]:
    lightgbm = needed("lightgbm", "Boosting(kind='lightgbm')")
    options = {
        "objective": OBJECTIVES["lightgbm"][spec.objective or "mae"], "learning_rate": spec.rate, "num_leaves": spec.leaves, "min_data_in_leaf": spec.least,
        "bagging_fraction": spec.share, "bagging_freq": 1, "feature_fraction": spec.share, "tweedie_variance_power": spec.tweedie_power,
        "seed": seed, "deterministic": True, "force_row_wise": True, "num_threads": torch.get_num_threads(), "verbosity": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(*train, categorical_feature=kinds, params={"verbosity": -1})
    held = [lightgbm.Dataset(*stop, reference=data)] if len(stop[0]) else []
    watch = [lightgbm.early_stopping(spec.patience, verbose=False)] if held else []
    made = lightgbm.train(options, data, num_boost_round=spec.rounds, valid_sets=held, callbacks=watch)
    best = made.best_iteration if held else made.current_iteration()
    return made.model_to_string(num_iteration=best), max(1, best)


def _xgboost(spec: Boosting, train: Rows, stop: Rows, seed: int) -> tuple[str, int]:
    xgboost = needed("xgboost", "Boosting(kind='xgboost')")
    options = {
        "objective": OBJECTIVES["xgboost"][spec.objective or "mae"], "eta": spec.rate, "max_leaves": spec.leaves, "max_depth": 0, "grow_policy": "lossguide",
        "min_child_weight": spec.least, "subsample": spec.share, "colsample_bytree": spec.share, "seed": seed, "nthread": torch.get_num_threads(),
        "verbosity": 0, "tree_method": "hist",
    }  # fmt: skip
    options |= {"tweedie_variance_power": spec.tweedie_power} if spec.objective == "tweedie" else {}
    data, held = xgboost.DMatrix(train[0], train[1]), [(xgboost.DMatrix(stop[0], stop[1]), "stop")] if len(stop[0]) else []
    made = xgboost.train(options, data, spec.rounds, evals=held, early_stopping_rounds=spec.patience if held else None, verbose_eval=False)
    best = made.best_iteration + 1 if held else made.num_boosted_rounds()
    return made[:best].save_raw("json").decode(), best


class Loaded(NamedTuple):
    """Trees read from their text, as mlforecast calls a model."""

    booster: Any
    matrix: Any = None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """One number a row."""
        found: np.ndarray = self.booster.predict(self.matrix(features) if self.matrix else features)
        return found


def loaded(kind: Library, trees: str) -> Loaded:
    """A booster from its text (LightGBM) or JSON (XGBoost), neither of which can run code."""
    if kind == "lightgbm":
        return Loaded(needed("lightgbm", "Boosting(kind='lightgbm')").Booster(model_str=trees))
    xgboost = needed("xgboost", "Boosting(kind='xgboost')")
    booster = xgboost.Booster({"nthread": torch.get_num_threads()})
    booster.load_model(bytearray(trees, "utf-8"))
    return Loaded(booster, xgboost.DMatrix)


def as_bytes(trees: str) -> Tensor:
    """Text as a weight [1, byte], which a model file holds like any other."""
    return torch.frombuffer(bytearray(trees, "utf-8"), dtype=torch.uint8).clone()[None]


def text(weight: Tensor) -> str:
    """The inverse of `as_bytes`."""
    return weight[0].numpy().tobytes().decode()
