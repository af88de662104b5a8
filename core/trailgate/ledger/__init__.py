"""The append-only ledger: records, stores, queries, verification."""
