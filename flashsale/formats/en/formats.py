"""How Django's own admin pages write moments: as ours do, to the second and with the zone."""

DATETIME_FORMAT = "j M Y, H:i:s T"
