"""Makes the helpers of this directory (netlab.py) importable from the tests below it."""
