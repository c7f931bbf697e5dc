"""Accounts: API keys, tiers, credits, concurrency leases, single-use tokens."""
