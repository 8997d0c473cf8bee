"""Tests on real lab hosts."""

BASE = "t-base"  # the halted host on whose disk the workers' hosts stand
BOOT = 1.5  # seconds that the visited site takes to boot: a stall would be as long
STALL = 1000  # ms; not the 50 of `just load`, as other tests may run on this machine
