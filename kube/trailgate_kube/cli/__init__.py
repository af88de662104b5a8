"""Commands of ``trailgate`` that need the cluster; ``trailgate.cli`` loads them by name."""
