"""Every option of geolift: its name, default, rule and help text, in one place.

A command's settings (`commands`) are the sum of the groups it needs (`groups`); a step receives the same object typed
as its own group. Command line, environment, TOML and the sidecar are all read and written through these models, and
`values` turns what people type into what they mean.
"""

from geolift.settings.base import Group, Settings
from geolift.settings.commands import (
    ApplySettings,
    BenchmarkSettings,
    EvaluateSettings,
    FuseSettings,
    MosaicSettings,
    PairSettings,
    SimulateSettings,
    TrainSettings,
)
from geolift.settings.groups import (
    AbundanceSettings,
    BadBandSettings,
    BandSettings,
    ComparisonSettings,
    DeviceSettings,
    EngineSettings,
    HsiReadingSettings,
    MaskSettings,
    MethodSettings,
    MsiBandSettings,
    MsiReadingSettings,
    Reading,
    ReferenceSettings,
    RefineSettings,
    RegionSettings,
    ScreenSettings,
    SeedSettings,
    SensorSettings,
    StreamingSettings,
    TilingSettings,
    UnmixingSettings,
    WritingSettings,
)

__all__ = [
    "AbundanceSettings", "ApplySettings", "BadBandSettings", "BandSettings", "BenchmarkSettings",
    "ComparisonSettings", "DeviceSettings", "EngineSettings", "EvaluateSettings", "FuseSettings", "Group",
    "HsiReadingSettings", "MaskSettings", "MethodSettings", "MosaicSettings", "MsiBandSettings",
    "MsiReadingSettings", "PairSettings", "Reading", "ReferenceSettings", "RefineSettings", "RegionSettings",
    "ScreenSettings", "SeedSettings", "SensorSettings", "Settings", "SimulateSettings", "StreamingSettings",
    "TilingSettings", "TrainSettings", "UnmixingSettings", "WritingSettings",
]  # fmt: skip
