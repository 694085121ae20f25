"""Seeded simulation of a cluster: network, clock, disk, traitors, oracle, planted bugs.

``python -m consensus.sim --seed N --n 4 --trace`` tells the story of one run. What a run is:

* ``plan`` draws a ``schedule`` from the seed: everything that will go wrong, decided in advance;
* ``cluster`` builds the world and lets time pass (``clock``, ``network``);
* each honest ``node`` has one ``life`` after the other: the product's own core, ingress, codecs,
  log and recovery on a ``disk`` that keeps only what was synced (``journal``), with ``errands`` to
  other nodes and a toy state ``machine`` in place of the ledger;
* traitors (``faults``, ``forgers``, ``twin``; all in ``roster``) act through a ``hand`` that holds
  their own keys alone;
* the ``oracle`` judges every byte that leaves an honest node, ``liveness`` what never happens,
  ``accountability`` whom a fork by more than f traitors convicts;
* ``mutants`` plants bugs in the core, ``gate`` counts the schedules until one is caught;
* ``batch`` and ``report`` run many and write down what they came to.
"""
