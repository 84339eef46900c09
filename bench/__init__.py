"""Compares the service with the C peers, side by side in one run: `python -m bench`.

`rows` is the table of what is measured; `measure` and `taps` know how; `peers` start and stop the forwarders;
`load` drives the generator, which is written in C; `results`, `report` and `plot` say what came out.
"""
