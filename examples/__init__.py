"""Programs that use AOS. Run them from the root of the repository: `.venv/bin/python -m examples.hello`."""
