"""The API fuzzed: what schemathesis thinks of for the OpenAPI document, and far more of the kind, in one process."""
