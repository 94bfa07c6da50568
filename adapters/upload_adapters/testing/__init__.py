"""For a host's tests: its own code against kills, outages, full disks and rivals, in memory and in milliseconds.

    world = Rehearsal({"a.fits": b"some bytes"})
    world.outage(900)                 # 15 min without an answer, from the first upload on
    world.kill_at(40)                 # and its process dies at the 40th call of a port
    summary = world.run(my_delivery)  # my_delivery(ports) makes an UploadClient with them
    world.check()                     # nothing lost, nothing doubled

`every_crash` does that at each call in turn; `Rehearsal.storm` draws what goes wrong. What the simulator of this library
shows about itself is `upload_adapters.simulation.simulate`.
"""

from upload_adapters.testing.calls import PORTS, Calls, Killed
from upload_adapters.testing.faults import Storm
from upload_adapters.testing.rehearsal import Rehearsal, every_crash

__all__ = ["PORTS", "Calls", "Killed", "Rehearsal", "Storm", "every_crash"]
