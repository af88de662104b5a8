"""What can go wrong in a story besides the story."""

from __future__ import annotations


class StoryError(Exception):
    """Something that the stories stand on did not come about."""
