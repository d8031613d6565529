# The public names of the package, listed here alone: __init__.py loads each when it is first used.
from . import compare as compare
from . import convert as convert
from . import data as data
from . import errors as errors
from . import events as events
from . import record as record
from . import registry as registry
from . import tracking as tracking
from . import train as train
from . import view as view
from .compare.comparison import compare_trackers as compare_trackers
from .compare.page import write_comparison as write_comparison
from .convert.importer import import_run as import_run
from .convert.parquet import export_parquet as export_parquet
from .data.splits import load_data as load_data
from .errors import RecordError as RecordError
from .errors import UserError as UserError
from .record.catalog import list_runs as list_runs
from .record.reader import RunRecord as RunRecord
from .record.reader import read as read
from .registry.predict import load_model as load_model
from .registry.predict import predict_images as predict_images
from .tracking.run import Run as Run
from .tracking.run import track as track
from .tracking.sync import sync as sync
from .train.config_file import load_config as load_config
from .train.experiment import Result as Result
from .train.experiment import run as run
from .train.reproduce import reproduce_run as reproduce_run
from .train.sweep import SweepResult as SweepResult
from .train.sweep import sweep as sweep
from .view.report import write_report as write_report

__all__: list[str]
__version__: str
