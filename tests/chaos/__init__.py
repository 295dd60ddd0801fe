"""Real processes under a schedule of kills, freezes and cut connections; what they promise is checked from outside."""
