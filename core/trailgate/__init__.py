"""Trailgate: deploy trail and admission gate for Kubernetes."""

__version__ = "0.1.0"
