"""foretell: operational time series into decisions one can trust. Four verbs: forecast, detect, explain, plan."""

from . import detect, forecast, hierarchy, neighbours, nets, plan, worlds
from .backtesting import backtest
from .baseline import Drift, MovingAverage, SeasonalNaive
from .choosing import Choice, choose
from .clock import Clock
from .diagnosis import Diagnosis, diagnose
from .dossier import dossier
from .errors import DataError, FileError, ForetellError, TaskError
from .examples import example
from .explanation import explain
from .forecaster import Forecaster
from .hierarchy import sums, table_by
from .optim import Optimizer
from .outcome import Forecast
from .panel import Panel, calendar_of, from_array
from .pictures import plot
from .portraits import portrait
from .reading import Reading, check, read, read_m5
from .reporting import report
from .scoreboard import Backtest
from .selecting import Selection, select
from .storage import load, save
from .task import Task
from .train import Training
from .transform.price import price_channels
from .tuning import Study, tune

__version__ = "0.1.0"

__all__ = [
    "Backtest",
    "Choice",
    "Clock",
    "DataError",
    "Diagnosis",
    "Drift",
    "FileError",
    "Forecast",
    "Forecaster",
    "ForetellError",
    "MovingAverage",
    "Optimizer",
    "Panel",
    "Reading",
    "SeasonalNaive",
    "Selection",
    "Study",
    "Task",
    "TaskError",
    "Training",
    "backtest",
    "calendar_of",
    "check",
    "choose",
    "detect",
    "diagnose",
    "dossier",
    "example",
    "explain",
    "forecast",
    "from_array",
    "hierarchy",
    "load",
    "neighbours",
    "nets",
    "plan",
    "plot",
    "portrait",
    "price_channels",
    "read",
    "read_m5",
    "report",
    "save",
    "select",
    "sums",
    "table_by",
    "tune",
    "worlds",
]
