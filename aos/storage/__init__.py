"""Stores: durable rows, one partition an agent, and big bytes by name."""
