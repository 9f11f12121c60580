"""Networks: the local one on the phone, the cloud one, the attackers, and what they cost."""
