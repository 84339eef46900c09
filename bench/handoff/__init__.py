"""Hand-offs compared: the C tools and this service move the same loads between the same two paths, in one run.

python -m bench.handoff              the table
python -m bench.handoff --repeat 50  hand-offs back and forth, and what is left of them
"""
