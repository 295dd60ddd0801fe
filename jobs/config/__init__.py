"""The configuration: its model, how a file becomes one, and how a change of the file is followed."""

from jobs.config.load import ConfigError
from jobs.config.model import Anonymous, Config, Limits, Model, Pool, Provider, Retention, Tier, Webhooks
from jobs.config.watch import ConfigWatcher

__all__ = [
    "Anonymous",
    "Config",
    "ConfigError",
    "ConfigWatcher",
    "Limits",
    "Model",
    "Pool",
    "Provider",
    "Retention",
    "Tier",
    "Webhooks",
]
