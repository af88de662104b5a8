"""The one use case: a request in, an assessment out."""
