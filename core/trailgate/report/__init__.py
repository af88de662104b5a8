"""Renders what ledger queries return, for people."""
