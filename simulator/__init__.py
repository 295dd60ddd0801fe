"""The provider simulator: an OpenAI-compatible server, strict about its own limits; imports no other room."""
