"""Values ↔ JSON: the stored shape (`wire`), typed field values (`values`), older versions (`upgrades`), `files`.

`known_types` are the classes that a file may bring back; `stand_in` takes the place of a value that cannot be kept.
"""
