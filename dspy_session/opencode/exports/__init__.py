"""OpenCode's history in other formats. `writing` is the way in; `redaction` goes over all that leaves."""
