"""All scenarios, in the order in which a record takes them."""

from bench.scenarios.bounds import BOUNDS_HELD
from bench.scenarios.cohorts import COHORTS
from bench.scenarios.fanout import BURSTS, CPU
from bench.scenarios.growth import GROWTH
from bench.scenarios.herd import HERD
from bench.scenarios.idle import IDLE
from bench.scenarios.instructions import INSTRUCTIONS
from bench.scenarios.isolation import STUCK
from bench.scenarios.memory import MEMORY
from bench.scenarios.odd import ODD
from bench.scenarios.pauses import PAUSES
from bench.scenarios.polling import POLL
from bench.scenarios.recovery import RECOVERY
from bench.scenarios.refused import REFUSED
from bench.scenarios.restart import RESTART
from bench.scenarios.storm import STORM

COST = (CPU, BURSTS, MEMORY, IDLE, STORM, COHORTS, STUCK, POLL, PAUSES, INSTRUCTIONS, GROWTH)

TIME = (RECOVERY, BOUNDS_HELD, HERD, ODD, REFUSED, RESTART)

SCENARIOS = {scenario.name: scenario for scenario in (*COST, *TIME)}
