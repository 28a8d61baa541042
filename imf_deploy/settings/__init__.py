"""Every setting, declared once: type, default, bounds and help text.

The command line, ``--config`` files, error messages and the record of a run are derived from these classes.
"""

from imf_deploy.settings.bench import BenchSettings
from imf_deploy.settings.check import CheckSettings
from imf_deploy.settings.data import DataSettings
from imf_deploy.settings.distill import BranchSettings, DistillSettings, LossSettings, QatSettings
from imf_deploy.settings.export import (
    BatchRange,
    BuildSettings,
    EngineSettings,
    ExportSettings,
    GraphSettings,
    InterfaceSettings,
)
from imf_deploy.settings.gate import Gate
from imf_deploy.settings.plan import PlanSettings
from imf_deploy.settings.quantize import HalfSettings, QuantizeSettings
from imf_deploy.settings.run import RunSettings
from imf_deploy.settings.study import StudySettings
from imf_deploy.settings.teacher import GivenTeacher, ReadingSettings, RunTeacher, TeacherSettings
from imf_deploy.settings.training import BudgetSettings, MonitoringSettings, TrainingSettings

__all__ = [
    "BatchRange",
    "BenchSettings",
    "BranchSettings",
    "BudgetSettings",
    "BuildSettings",
    "CheckSettings",
    "DataSettings",
    "DistillSettings",
    "EngineSettings",
    "ExportSettings",
    "Gate",
    "GivenTeacher",
    "GraphSettings",
    "HalfSettings",
    "InterfaceSettings",
    "LossSettings",
    "MonitoringSettings",
    "PlanSettings",
    "QatSettings",
    "QuantizeSettings",
    "ReadingSettings",
    "RunSettings",
    "RunTeacher",
    "StudySettings",
    "TeacherSettings",
    "TrainingSettings",
]
