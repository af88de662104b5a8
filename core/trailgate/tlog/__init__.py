"""Transparency-log formats of C2SP, bytes only: tree, note, checkpoint, proof.

Everything here is pure: no files, no database, no clock.
Specs: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note,
https://c2sp.org/tlog-proof and RFC 6962.
"""
