"""Tests on real lab hosts."""

BASE = "t-base"  # the halted host on whose disk the workers' hosts stand
BOOT = 1.5  # seconds that the visited site takes to boot: a stall would be as long
# ms: of 20 requests a second one waits nearly all of BOOT. Not the 50 of `just load`: others use this machine.
STALL = 1400
