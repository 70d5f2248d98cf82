"""What is installed and usable on this machine, what each missing piece costs, and the command that adds it.

`probes.py` tries the packages, `process.py` does so in processes of their own, so that one that crashes or hangs is a
line and no more, `parts.py` knows what each is for, `examine.py` puts it together.
"""
