"""Kubernetes access for Trailgate, written once: readers, writers, object types."""
