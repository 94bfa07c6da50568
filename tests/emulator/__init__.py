"""An emulator of the few AWS services a delivery meets, with the rules that AWS documents and stand-ins leave out.

Rule: it never answers "yes" to something it does not check. What it does not know is refused with 501, and every rule
it claims has a test in `test_rules.py` or `test_batch_rules.py` that drives it through boto3. Faults can be ordered per request.
"""

from tests.emulator.faults import Fault
from tests.emulator.functions import CommandFunction
from tests.emulator.server import Emulator
from tests.emulator.settings import Settings
from tests.emulator.tasks import CommandRunner

__all__ = ["CommandFunction", "CommandRunner", "Emulator", "Fault", "Settings"]
