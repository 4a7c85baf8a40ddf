"""Hosts: what keeps the dispatcher supplied with deliveries."""
