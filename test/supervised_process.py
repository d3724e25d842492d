"""A process for the supervisor to look after. Arguments: name, file that gets a line at each event, behaviour."""

import os
import signal
import sys
import time

name, record, behaviour = sys.argv[1:]


def say(event: str) -> None:
    with open(record, "a") as file:
        file.write(f"{name} {event}\n")


def end(number: int, frame: object) -> None:
    say("begins to end")
    time.sleep(0.2)
    say("ended")
    sys.exit(0)


if behaviour == "mistaken":
    print(f"{name}: error: seed 99 is out of range: choose one from 0 to 39")
    sys.exit(1)
if behaviour == "finished":
    sys.exit(0)
signal.signal(signal.SIGINT, signal.SIG_IGN if behaviour == "deaf" else end)
say(f"started as {os.getpid()} with niceness {os.getpriority(os.PRIO_PROCESS, 0)} in {os.getcwd()}")
if behaviour == "crashing":
    print("about to crash", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
while True:
    signal.pause()
