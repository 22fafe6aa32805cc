"""`gemflowctl benchmark`: what is measured (`kinds.py`) and how, on a daemon that others use meanwhile (`bench.py`)."""
