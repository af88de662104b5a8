"""A real control plane for tests and the demo: built or found, started, and gone with us."""
