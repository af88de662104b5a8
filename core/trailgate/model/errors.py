"""The root of Trailgate's own exceptions.

Each package defines its errors under this one; foreign exceptions are converted
where they enter, so that whoever catches ``TrailgateError`` has caught all that
was foreseen.
"""


class TrailgateError(Exception):
    """Something that Trailgate foresaw went wrong; the text is for a person to read."""


class MalformedError(TrailgateError, ValueError):
    """Input that does not have the form it must have; the text says got and expected."""
