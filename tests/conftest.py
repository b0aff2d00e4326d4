"""What all tests share: hypothesis' habits. Slow machines are no bug, so there is no deadline."""

from hypothesis import settings

settings.register_profile("selvedge", deadline=None, print_blob=True)
settings.load_profile("selvedge")
