"""Security groups on the real thing: real packets of real guests through real switches."""
