"""Latency that can be quoted: engines measured in turns, engine alone and end to end apart, with the machine's record.

`measure.py` runs the rounds, `samples.py` holds times and compares them, `fresh.py` is the process that knows start-up
and memory, `power.py` reads the board's sensors, `report.py` draws and writes.
"""
