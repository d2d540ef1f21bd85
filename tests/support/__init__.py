"""What tests share: small data, small networks, a federation in one process, people who attack it."""
