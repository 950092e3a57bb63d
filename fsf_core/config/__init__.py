"""Every option of every command: one frozen dataclass each is its flags, its YAML file and its environment in one.

A file is one command; `model` and `listing` are options that several share, `values` how they are read, `groups` where
help shows them. The docstring of a field is its help. Config stops at the flow: stages and tools take the values they
need.
"""

from fsf_core.config.bench import BenchConfig
from fsf_core.config.diff import DiffConfig
from fsf_core.config.doctor import DoctorConfig
from fsf_core.config.evaluate import EvaluateConfig
from fsf_core.config.export import LIBRARIES, ExportConfig, is_adopted, library_of
from fsf_core.config.inspect import InspectConfig
from fsf_core.config.inspect_model import InspectModelConfig
from fsf_core.config.listing import ListOptions
from fsf_core.config.model import INTERFACE_OPTIONS, ModelOptions
from fsf_core.config.publish import PublishConfig
from fsf_core.config.render import RenderConfig
from fsf_core.config.report import ReportConfig
from fsf_core.config.score import ScoreConfig
from fsf_core.config.select import SelectConfig
from fsf_core.config.submit import SubmitConfig
from fsf_core.config.trend import TrendConfig
from fsf_core.config.values import Colours, Names, Numbers, parse_actors, parse_colours, parse_shard

__all__ = [
    "INTERFACE_OPTIONS",
    "LIBRARIES",
    "BenchConfig",
    "Colours",
    "DiffConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "ExportConfig",
    "InspectConfig",
    "InspectModelConfig",
    "ListOptions",
    "ModelOptions",
    "Names",
    "Numbers",
    "PublishConfig",
    "RenderConfig",
    "ReportConfig",
    "ScoreConfig",
    "SelectConfig",
    "SubmitConfig",
    "TrendConfig",
    "is_adopted",
    "library_of",
    "parse_actors",
    "parse_colours",
    "parse_shard",
]
