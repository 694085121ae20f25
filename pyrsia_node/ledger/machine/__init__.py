"""The deterministic state machine: what a block means. Pure: no clock, no I/O.

``execute`` runs a block; ``requests`` and ``attestations`` judge transactions; ``tally`` and
``late`` derive outcomes; ``records`` says what the state holds; ``view`` collects the changes.
"""
