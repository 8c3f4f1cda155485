"""Which tokens an answer of a finished run rests on (extra `explain`)."""
