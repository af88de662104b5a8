"""The Trailgate operator: turns what the gate admitted into ledger entries."""
