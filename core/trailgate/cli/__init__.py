"""The trailgate command."""
