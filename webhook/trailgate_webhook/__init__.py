"""The Trailgate admission endpoint, a process of its own."""
