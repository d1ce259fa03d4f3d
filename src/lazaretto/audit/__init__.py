"""Attacks on a finished run's privacy: what an attacker reaches, beside what is claimed."""
