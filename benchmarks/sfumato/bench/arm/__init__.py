"""Executed ARM64 instructions of a model, counted exactly on any x86-64 Linux machine.

`toolbox` fetches a private emulator and builds what runs in it, `emulator` runs one model on one emulated core, `counting`
makes a result file. `guest.c` runs inside the emulator, `count.c` counts in it.
"""
