"""Benchmarks: AOS, the disk's floor and two peers, measured in one run. Read README.md beside this file."""
