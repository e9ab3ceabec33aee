"""Sensors: bands, quality layers, radiometry, coefficient tables, and the registry of products."""

from xharmonize.sensors.registry import find_sensor, get_sensor, list_sensors, register_sensor
from xharmonize.sensors.spec import (
    SEPARATOR,
    UNKNOWN,
    Band,
    BitField,
    ExtraBand,
    Flag,
    Instrument,
    Layout,
    Names,
    Naming,
    QALayer,
    Radiometry,
    Sensor,
)

__all__ = [
    "SEPARATOR",
    "UNKNOWN",
    "Band",
    "BitField",
    "ExtraBand",
    "Flag",
    "Instrument",
    "Layout",
    "Names",
    "Naming",
    "QALayer",
    "Radiometry",
    "Sensor",
    "find_sensor",
    "get_sensor",
    "list_sensors",
    "register_sensor",
]
