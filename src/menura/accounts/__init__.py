"""Accounts: API keys, tiers, credits, concurrency leases, single-use tokens."""

from menura.accounts.credits import Charge, credits_for
from menura.accounts.leases import Lease
from menura.accounts.principal import PERMISSIONS, Principal
from menura.accounts.service import Accounts

__all__ = [
    "PERMISSIONS",
    "Accounts",
    "Charge",
    "Lease",
    "Principal",
    "credits_for",
]
