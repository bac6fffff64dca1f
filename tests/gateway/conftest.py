"""How hypothesis runs here: no deadline for one example, since the machine may be busy with something else."""

from hypothesis import HealthCheck, settings

settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")
