"""Values ↔ JSON: the stored shape (`wire`), typed field values (`values`), older versions (`upgrades`), files."""
