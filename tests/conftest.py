"""The fixtures that every test may ask for; what they are is said where they are made."""

from tests.support.valkey import backend, fake, redis_on_valkey, server, valkey

__all__ = ["backend", "fake", "redis_on_valkey", "server", "valkey"]
